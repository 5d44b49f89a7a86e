//! The format's default comparison: token by token, with a few flags.
//!
//! Invariant: a comparison is a pure function of the flags and both texts, and runs on the host: nothing of a submission
//! is executed here.

/// How tokens are compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    case_sensitive: bool,
    space_change_sensitive: bool,
    absolute: Option<f64>,
    relative: Option<f64>,
}

impl Flags {
    /// Reads the flags as a package has them; an error says which is wrong.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let mut flags = Self::default();
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut tolerance = || {
                let value = words.next().and_then(|value| value.parse().ok());
                let is_sound = |value: &f64| value.is_finite() && *value >= 0.0;
                value.filter(is_sound).ok_or_else(|| format!("{word} needs a number after it, as in `{word} 1e-6`"))
            };
            match word {
                "case_sensitive" => flags.case_sensitive = true,
                "space_change_sensitive" => flags.space_change_sensitive = true,
                "float_absolute_tolerance" => flags.absolute = Some(tolerance()?),
                "float_relative_tolerance" => flags.relative = Some(tolerance()?),
                "float_tolerance" => {
                    let value = tolerance()?;
                    (flags.absolute, flags.relative) = (Some(value), Some(value));
                }
                _ => return Err(format!("the default validator has no flag {word}")),
            }
        }
        Ok(flags)
    }

    /// Compares an output with the answer; an error says where they first differ.
    pub fn compare(&self, output: &[u8], answer: &[u8]) -> Result<(), String> {
        let (mut ours, mut theirs) = (Pieces::of(output), Pieces::of(answer));
        loop {
            let (got, want) = (ours.next(), theirs.next());
            let line = ours.line;
            if self.space_change_sensitive {
                let (got, want) = (got.map_or(&[][..], |piece| piece.space), want.map_or(&[][..], |piece| piece.space));
                if got != want {
                    return Err(format!("line {line}: the white space is {}, and not {}", shown(got), shown(want)));
                }
            }
            let (got, want) = (got.map(|piece| piece.token), want.map(|piece| piece.token));
            let is_token = |token: &&[u8]| !token.is_empty();
            match (got.filter(is_token), want.filter(is_token)) {
                (None, None) => return Ok(()),
                (Some(got), None) => return Err(format!("line {line}: {} is too much", shown(got))),
                (None, Some(want)) => return Err(format!("the output ends where {} should be", shown(want))),
                (Some(got), Some(want)) if self.is_same(got, want) => {}
                (Some(got), Some(want)) => {
                    return Err(format!("line {line}: {}, and not {}", shown(got), shown(want)));
                }
            }
        }
    }

    fn is_same(&self, got: &[u8], want: &[u8]) -> bool {
        let has_tolerance = self.absolute.is_some() || self.relative.is_some();
        match number(want).filter(|_| has_tolerance) {
            Some(want) => number(got).is_some_and(|got| self.is_near(got, want)),
            None if self.case_sensitive => got == want,
            None => got.eq_ignore_ascii_case(want),
        }
    }

    fn is_near(&self, got: f64, want: f64) -> bool {
        let distance = (got - want).abs();
        // Equal first: two infinities, as 1e999 is read, have no distance.
        got == want
            || self.absolute.is_some_and(|tolerance| distance <= tolerance)
            || self.relative.is_some_and(|tolerance| distance <= tolerance * want.abs())
    }
}

/// A number as the format writes them: decimal, perhaps with an exponent. Rust would also read `inf` and `nan`.
fn number(token: &[u8]) -> Option<f64> {
    let has_only = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    std::str::from_utf8(token).ok().filter(|text| text.bytes().all(|byte| has_only(&byte)))?.parse().ok()
}

/// White space and the token after it; at the end of a text the token is empty.
#[derive(Clone, Copy)]
struct Piece<'a> {
    space: &'a [u8],
    token: &'a [u8],
}

struct Pieces<'a> {
    rest: &'a [u8],
    /// The line that the last piece's token is on.
    line: usize,
}

impl<'a> Pieces<'a> {
    fn of(text: &'a [u8]) -> Self {
        Self { rest: text, line: 1 }
    }

    fn take(&mut self, is_in: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| !is_in(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let space = self.take(is_space);
        self.line += space.iter().filter(|&&byte| byte == b'\n').count();
        Some(Piece { space, token: self.take(|byte| !is_space(byte)) })
    }
}

fn is_space(byte: u8) -> bool {
    // The vertical tab is one to the format, and none to Rust.
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// A token as a message has it: quoted, and not longer than a line.
fn shown(token: &[u8]) -> String {
    let text = String::from_utf8_lossy(token);
    let head: String = text.chars().take(40).collect();
    if head.len() < text.len() { format!("{head:?}…") } else { format!("{head:?}") }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
