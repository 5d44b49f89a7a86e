//! The format's default comparison: token by token, with a few flags.
//!
//! Invariant: a comparison is a pure function of the flags and both texts. It runs on the host, and
//! executes nothing.

/// How tokens are compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    case_sensitive: bool,
    space_change_sensitive: bool,
    absolute: Option<f64>,
    relative: Option<f64>,
}

impl Flags {
    /// Parses the flags of a package. An error names the wrong flag.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let mut flags = Self::default();
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut tolerance = || {
                let value = words.next().and_then(|value| value.parse().ok());
                let is_valid = |value: &f64| value.is_finite() && *value >= 0.0;
                value.filter(is_valid).ok_or_else(|| format!("{word} needs a number after it, as in `{word} 1e-6`"))
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

    /// Compares an output with the answer. An error describes the first difference.
    pub fn compare(&self, output: &[u8], answer: &[u8]) -> Result<(), String> {
        let (mut output, mut answer) = (Tokens::of(output), Tokens::of(answer));
        loop {
            let (got, want) = (output.next_token(), answer.next_token());
            let line = output.line;
            if self.space_change_sensitive && got.space != want.space {
                let (got, want) = (quoted(got.space), quoted(want.space));
                return Err(format!("line {line}: the white space is {got}, and not {want}"));
            }
            match (got.text, want.text) {
                (b"", b"") => return Ok(()),
                (got, b"") => return Err(format!("line {line}: {} is too much", quoted(got))),
                (b"", want) => return Err(format!("the output ends where {} should be", quoted(want))),
                (got, want) if self.is_same(got, want) => {}
                (got, want) => return Err(format!("line {line}: {}, and not {}", quoted(got), quoted(want))),
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
        // Two infinities, such as 1e999, are equal but have no distance.
        got == want
            || self.absolute.is_some_and(|tolerance| distance <= tolerance)
            || self.relative.is_some_and(|tolerance| distance <= tolerance * want.abs())
    }
}

/// Parses a decimal number, with or without an exponent. Rust would also parse `inf` and `nan`.
fn number(token: &[u8]) -> Option<f64> {
    let is_decimal = token.iter().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte));
    std::str::from_utf8(token).ok().filter(|_| is_decimal)?.parse().ok()
}

/// A token and the white space before it. The text is empty at the end.
#[derive(Clone, Copy)]
struct Token<'a> {
    space: &'a [u8],
    text: &'a [u8],
}

struct Tokens<'a> {
    rest: &'a [u8],
    /// The line of the last token.
    line: usize,
}

impl<'a> Tokens<'a> {
    fn of(text: &'a [u8]) -> Self {
        Self { rest: text, line: 1 }
    }

    /// The next token. After the last one there are only empty tokens.
    fn next_token(&mut self) -> Token<'a> {
        let space = self.take_while(is_space);
        self.line += space.iter().filter(|&&byte| byte == b'\n').count();
        Token { space, text: self.take_while(|byte| !is_space(byte)) }
    }

    fn take_while(&mut self, is_in: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| !is_in(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }
}

fn is_space(byte: u8) -> bool {
    // The format counts the vertical tab as white space. Rust does not.
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// A token in quotes, cut to 40 characters.
fn quoted(token: &[u8]) -> String {
    let text = String::from_utf8_lossy(token);
    let head: String = text.chars().take(40).collect();
    if head.len() < text.len() { format!("{head:?}…") } else { format!("{head:?}") }
}

#[cfg(test)]
mod tests;
