//! The commands in the code blocks of a Markdown page.

/// A command of a page, word for word.
#[derive(Debug)]
pub struct Shown {
    /// The page and the line.
    pub place: String,
    pub command: String,
    /// The output that the page shows, if it shows one.
    pub output: Option<String>,
}

/// The commands of all blocks of a page that begin with ```` ```sh ```` or ```` ```console ````.
///
/// A line of an `sh` block is a command. A `console` block has a prompt before each command, and
/// the output after it. A line that ends with a backslash goes on in the next one.
pub fn commands(page: &str, text: &str) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    let (mut language, mut unfinished) = (None, String::new());
    for (at, line) in text.lines().enumerate() {
        let place = format!("{page}:{}", at + 1);
        if let Some(fence) = line.strip_prefix("```") {
            language = if language.is_some() { None } else { Some(fence) };
            assert!(unfinished.is_empty(), "{place}: a command goes on after its block");
            continue;
        }
        match language {
            Some("sh") if line.is_empty() => {}
            Some("sh") => {
                unfinished += line;
                if let Some(begun) = unfinished.strip_suffix('\\') {
                    unfinished = format!("{} ", begun.trim_end());
                } else {
                    shown.push(Shown { place, command: std::mem::take(&mut unfinished), output: None });
                }
            }
            Some("console") => match (line.strip_prefix("$ "), shown.last_mut()) {
                (Some(command), _) => shown.push(Shown { place, command: command.to_owned(), output: None }),
                (None, Some(before)) => *before.output.get_or_insert_default() += &format!("{line}\n"),
                (None, None) => panic!("{place}: an output without a command"),
            },
            Some(_) => assert!(!line.starts_with("$ "), "{place}: a command belongs in a block of `console`"),
            None => {}
        }
    }
    assert!(language.is_none(), "{page}: a block has no end");
    shown
}

/// Whether an output is the one that a page shows. `…` stands for any text in its line, and for
/// any lines if the line has nothing else.
pub fn is_shown_as(output: &str, shown: &str) -> bool {
    let (output, shown): (Vec<_>, Vec<_>) = (output.lines().collect(), shown.lines().collect());
    are_shown_as(&output, &shown)
}

fn are_shown_as(output: &[&str], shown: &[&str]) -> bool {
    match (output, shown) {
        (_, ["…", shown @ ..]) => (0..=output.len()).any(|skipped| are_shown_as(&output[skipped..], shown)),
        ([line, output @ ..], [like, shown @ ..]) => is_line_like(line, like) && are_shown_as(output, shown),
        (output, shown) => output.is_empty() && shown.is_empty(),
    }
}

fn is_line_like(line: &str, shown: &str) -> bool {
    let Some((first, others)) = shown.split_once('…') else { return line == shown };
    let Some(rest) = line.strip_prefix(first) else { return false };
    rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| is_line_like(&rest[at..], others))
}

#[test]
fn commands_are_read_word_for_word() {
    let page = "a\n```sh\none \\\n    two  # why\n\nthree\n```\n```text\nnot a command\n```\n```console\n$ four\nout\n$ five\n```\n";
    let read: Vec<_> = commands("page", page).into_iter().map(|it| (it.place, it.command, it.output)).collect();
    let expected = [
        ("page:4", "one     two  # why", None),
        ("page:6", "three", None),
        ("page:12", "four", Some("out\n")),
        ("page:14", "five", None),
    ];
    let expected = expected.map(|(place, command, out)| (place.to_owned(), command.to_owned(), out.map(str::to_owned)));
    assert_eq!(read, expected);
}

#[test]
fn an_output_is_compared_with_the_text() {
    for (output, shown) in
        [("Linux 6.1\nb\n", "Linux …\nb\n"), ("a x b y c", "a … b … c"), ("a\nb\nc\nd\n", "a\n…\nd\n")]
    {
        assert!(is_shown_as(output, shown), "{output:?} {shown:?}");
    }
    let others =
        [("a\n", "b\n"), ("a\nb\n", "a\n"), ("ab\n", "a\n"), ("Linux 6.1 x\n", "Linux …1\n"), ("b", "a…"), ("a\n", "")];
    for (output, shown) in others {
        assert!(!is_shown_as(output, shown), "{output:?} {shown:?}");
    }
}
