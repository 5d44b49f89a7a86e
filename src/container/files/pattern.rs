//! Patterns of paths: `*.txt`, `out/**`.
//!
//! Invariant: the time to match grows with the pattern's length times the path's length, and no
//! faster: programs choose the paths.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A pattern, as the parts between its slashes.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// `**`: any number of names, also none.
    Names,
    /// A name with `*` and `?`.
    Name(Vec<u8>),
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        let parts = text.split('/').filter(|part| !part.is_empty() && *part != ".");
        Self(parts.map(|part| if part == "**" { Part::Names } else { Part::Name(part.into()) }).collect())
    }

    /// Whether a relative path matches as a whole.
    pub(super) fn matches(&self, path: &Path) -> bool {
        self.reached(path)[self.0.len()]
    }

    /// Whether a path below this directory can match.
    pub(super) fn may_match_below(&self, dir: &Path) -> bool {
        self.reached(dir)[..self.0.len()].contains(&true)
    }

    /// For each number of parts, whether so many of them can match the whole path.
    fn reached(&self, path: &Path) -> Vec<bool> {
        let mut reached = vec![false; self.0.len() + 1];
        reached[0] = true;
        self.skip_names(&mut reached);
        for component in path.components() {
            let mut next = vec![false; reached.len()];
            for (place, part) in self.0.iter().enumerate().filter(|(place, _)| reached[*place]) {
                match part {
                    Part::Names => next[place] = true,
                    Part::Name(name) => next[place + 1] |= name_matches(name, component.as_os_str()),
                }
            }
            self.skip_names(&mut next);
            reached = next;
        }
        reached
    }

    /// A `**` matches no name as well.
    fn skip_names(&self, reached: &mut [bool]) {
        for (place, _) in self.0.iter().enumerate().filter(|(_, part)| **part == Part::Names) {
            reached[place + 1] |= reached[place];
        }
    }
}

fn name_matches(pattern: &[u8], name: &OsStr) -> bool {
    let name = name.as_bytes();
    let (mut at, mut of) = (0, 0);
    // The last star, and the place in the name up to which it has matched.
    let mut star: Option<(usize, usize)> = None;
    while of < name.len() {
        match (pattern.get(at), star) {
            (Some(b'*'), _) => {
                star = Some((at, of));
                at += 1;
            }
            (Some(&byte), _) if byte == b'?' || byte == name[of] => (at, of) = (at + 1, of + 1),
            (_, Some((place, matched))) => {
                star = Some((place, matched + 1));
                (at, of) = (place + 1, matched + 1);
            }
            _ => return false,
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_paths() {
        for (pattern, matching, others) in [
            ("*.txt", &["a.txt", ".txt", ".hidden.txt"][..], &["a.txt.gz", "out/a.txt", "txt", ""][..]),
            ("out/**", &["out/a", "out/a/b", "out"], &["outer/a", "a/out"]),
            ("**/*.log", &["a.log", "x/y/a.log"], &["a.log/b", "x/log"]),
            ("**", &["a", "a/b/c"], &[]),
            ("a/**/b/*", &["a/b/c", "a/x/b/c", "a/b/b/c"], &["a/b", "b/c", "a/x/c"]),
            ("case?/out*put", &["case1/output", "case?/out-x-put"], &["case/output", "case12/output", "case1/out"]),
            ("./a//b", &["a/b"], &["a"]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "a", "b"]),
        ] {
            let compiled = Pattern::new(pattern);
            for path in matching {
                assert!(compiled.matches(Path::new(path)), "{pattern} {path}");
            }
            for path in others {
                assert!(!compiled.matches(Path::new(path)), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn a_directory_that_cannot_lead_to_a_match_is_known() {
        for (pattern, dir, may) in [
            ("out/*.txt", "out", true),
            ("out/*.txt", "in", false),
            ("out/*.txt", "out/deep", false),
            ("out/**", "out/a/b", true),
            ("**/x", "anything", true),
            ("*.txt", "", true),
            ("*.txt", "a", false),
        ] {
            assert_eq!(Pattern::new(pattern).may_match_below(Path::new(dir)), may, "{pattern} {dir}");
        }
    }

    #[test]
    fn a_hostile_name_takes_no_longer() {
        let pattern = Pattern::new(&("**/".repeat(30) + &"*a".repeat(100) + "b"));
        let path: String = vec!["a".repeat(255); 15].join("/");
        let start = std::time::Instant::now();
        assert!(!pattern.matches(Path::new(&path)));
        assert!(start.elapsed().as_millis() < 500, "{:?}", start.elapsed());
    }
}
