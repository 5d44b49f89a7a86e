//! What each source file of a crate imports from the crate's other files.
//!
//! Invariant: every path that begins with `crate`, `self`, `super` or a module declared in the same
//! file is seen, in `use` trees, in expressions and inside macros alike. A `mod` declaration alone
//! is no import.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The modules of a crate that are files of their own: `["container", "actor"]` is
/// `container/actor.rs`.
pub struct Crate {
    root: PathBuf,
    files: BTreeMap<Vec<String>, Source>,
}

/// One file.
pub struct Source {
    /// Its path below the crate's `src`.
    pub path: PathBuf,
    tokens: TokenStream,
}

/// One import of a file's module by another's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub from: Vec<String>,
    pub to: Vec<String>,
    pub line: usize,
}

impl Crate {
    /// Reads every file below `src`, except for the binaries beside a library.
    pub fn read(src: &Path) -> Self {
        let mut files = BTreeMap::new();
        for path in sources(src) {
            let text = fs::read_to_string(src.join(&path)).unwrap();
            let tokens = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            files.insert(module_of(&path), Source { path, tokens });
        }
        Self { root: src.to_owned(), files }
    }

    pub fn modules(&self) -> impl Iterator<Item = (&Vec<String>, &Source)> {
        self.files.iter()
    }

    pub fn path(&self, module: &[String]) -> PathBuf {
        self.root.join(&self.files[module].path)
    }

    /// Every import of a file from another file of the crate.
    pub fn imports(&self) -> BTreeSet<Import> {
        let mut imports = BTreeSet::new();
        for (module, source) in &self.files {
            let mut reader = Reader { krate: self, file: module, imports: &mut imports };
            reader.read(source.tokens.clone(), module);
        }
        imports
    }

    /// The file in which a path ends, as far as it names modules. `None` where the path leaves the
    /// crate.
    fn file_of(&self, path: &[String]) -> Vec<String> {
        let mut depth = 0;
        while depth < path.len() && self.files.contains_key(&path[..=depth]) {
            depth += 1;
        }
        path[..depth].to_vec()
    }
}

impl Source {
    /// Every word of the code; comments and strings are left out.
    pub fn words(&self) -> BTreeSet<String> {
        let mut words = BTreeSet::new();
        collect_words(self.tokens.clone(), &mut words);
        words
    }
}

fn collect_words(tokens: TokenStream, words: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(word) => drop(words.insert(word.to_string())),
            TokenTree::Group(group) => collect_words(group.stream(), words),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Reads the imports of one file.
struct Reader<'a> {
    krate: &'a Crate,
    file: &'a Vec<String>,
    imports: &'a mut BTreeSet<Import>,
}

impl Reader<'_> {
    /// Reads tokens that stand in `module`: the file's own, or an inline one within it.
    fn read(&mut self, tokens: TokenStream, module: &[String]) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if let Some((name, body)) = inline_module(&tokens[at..]) {
                self.read(body.stream(), &[module, &[name]].concat());
                at += 3;
                continue;
            }
            match &tokens[at] {
                TokenTree::Ident(word) if !continues_a_path(&tokens[..at]) => {
                    let line = word.span().start().line;
                    if let Some(base) = self.base(&word.to_string(), module) {
                        at += 1 + self.path(&tokens[at + 1..], base, module, line);
                        continue;
                    }
                }
                TokenTree::Group(group) => self.read(group.stream(), module),
                _ => {}
            }
            at += 1;
        }
    }

    /// The module that a path's first word stands for, if the path stays in the crate.
    fn base(&self, word: &str, module: &[String]) -> Option<Vec<String>> {
        match word {
            "crate" => Some(Vec::new()),
            "self" => Some(module.to_vec()),
            "super" => Some(module.split_last()?.1.to_vec()),
            child => {
                let child = [module, &[child.to_owned()]].concat();
                self.krate.files.contains_key(&child).then_some(child)
            }
        }
    }

    /// Reads what follows a path's first word, and notes each file that the path leads to. Gives
    /// the number of tokens read.
    fn path(&mut self, tokens: &[TokenTree], mut base: Vec<String>, module: &[String], line: usize) -> usize {
        let mut read = 0;
        while let [TokenTree::Punct(one), TokenTree::Punct(two), next, ..] = &tokens[read..] {
            if (one.as_char(), two.as_char()) != (':', ':') {
                break;
            }
            match next {
                TokenTree::Ident(word) if word == "super" => drop(base.pop()),
                TokenTree::Ident(word) => base.push(word.to_string()),
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    self.tree(group, &base, module, line);
                    return read + 3;
                }
                _ => break,
            }
            read += 3;
        }
        // `mod child;` and `pub(crate)` name a module without a path.
        if read > 0 {
            self.note(&base, line);
        }
        read
    }

    /// Reads the branches of a use tree.
    fn tree(&mut self, group: &Group, base: &[String], module: &[String], line: usize) {
        let tokens: Vec<_> = group.stream().into_iter().collect();
        for branch in tokens.split(|token| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ',')) {
            match branch.first() {
                Some(TokenTree::Ident(word)) if word == "self" => self.note(base, line),
                Some(TokenTree::Ident(word)) => {
                    let base = [base, &[word.to_string()]].concat();
                    if self.path(&branch[1..], base.clone(), module, line) == 0 {
                        self.note(&base, line);
                    }
                }
                _ => self.note(base, line),
            }
        }
    }

    fn note(&mut self, path: &[String], line: usize) {
        let to = self.krate.file_of(path);
        if to != *self.file {
            self.imports.insert(Import { from: self.file.clone(), to, line });
        }
    }
}

/// `mod name { … }`.
fn inline_module(tokens: &[TokenTree]) -> Option<(String, &Group)> {
    match tokens {
        [TokenTree::Ident(word), TokenTree::Ident(name), TokenTree::Group(body), ..]
            if word == "mod" && body.delimiter() == Delimiter::Brace =>
        {
            Some((name.to_string(), body))
        }
        _ => None,
    }
}

/// Whether the word after these tokens continues a path, as `wire` in `crate::wire`, or is a field
/// or a method.
fn continues_a_path(before: &[TokenTree]) -> bool {
    let is = |token: &TokenTree, punct| matches!(token, TokenTree::Punct(it) if it.as_char() == punct);
    match before {
        [.., one, two] if is(two, ':') => is(one, ':'),
        [.., one] => is(one, '.'),
        [] => false,
    }
}

fn module_of(path: &Path) -> Vec<String> {
    let mut module: Vec<_> = path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

/// The files of a crate, as paths below `src`.
fn sources(src: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(src.join(&dir)).unwrap() {
            let path = dir.join(entry.unwrap().file_name());
            if path == Path::new("bin") {
                continue;
            }
            if src.join(&path).is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}
