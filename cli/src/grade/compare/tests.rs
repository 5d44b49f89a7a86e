//! What the default comparison accepts and rejects.

use super::*;

fn accepts(flags: &str, output: &str, answer: &str) -> bool {
    let words: Vec<_> = flags.split_whitespace().map(String::from).collect();
    Flags::parse(&words).unwrap().compare(output.as_bytes(), answer.as_bytes()).is_ok()
}

#[test]
fn tokens_are_compared_and_the_space_between_them_is_not() {
    assert!(accepts("", "1 2\n3", "1\n2 3\n"));
    assert!(accepts("", "\n\n yes \x0b\x0c\r\n", "yes"));
    assert!(accepts("", "", " \n"));
    assert!(!accepts("", "12", "1 2"));
    assert!(!accepts("", "1 2", "1 2 3"));
    assert!(!accepts("", "1 2 3", "1 2"));
    assert!(!accepts("", "", "0"));
    assert!(!accepts("", "1.0", "1"), "without a tolerance a number is a word");
}

#[test]
fn case_counts_only_where_the_flag_says_so() {
    assert!(accepts("", "YES", "yes"));
    assert!(!accepts("case_sensitive", "YES", "yes"));
    assert!(accepts("case_sensitive", "Yes", "Yes"));
    assert!(!accepts("", "É", "é"), "only the letters of ASCII have two cases");
}

#[test]
fn space_counts_only_where_the_flag_says_so() {
    assert!(accepts("space_change_sensitive", "a  b\n", "a  b\n"));
    for (output, answer) in [("a b", "a  b"), ("a\tb", "a b"), ("a\n", "a"), ("a", "a\n"), (" a", "a"), ("", "\n")] {
        assert!(!accepts("space_change_sensitive", output, answer), "{output:?} {answer:?}");
        assert!(output.is_empty() || accepts("", output, answer), "{output:?} {answer:?}");
    }
}

#[test]
fn a_tolerance_is_absolute_or_relative_or_either() {
    assert!(accepts("float_absolute_tolerance 1e-2", "1.009", "1"));
    assert!(!accepts("float_absolute_tolerance 1e-2", "1000.1", "1000"));
    assert!(accepts("float_relative_tolerance 1e-2", "1009", "1000"));
    assert!(!accepts("float_relative_tolerance 1e-2", "0.001", "0"));
    assert!(accepts("float_tolerance 1e-2", "1009 0.001", "1000 0"));
    assert!(!accepts("float_tolerance 1e-2", "1011", "1000"));
    assert!(accepts("float_tolerance 1e-9", "3.14000000e-2 +7 .5 5.", "0.0314 7 0.5 5"));
    assert!(accepts("float_tolerance 0", "-0", "0"));
}

#[test]
fn what_is_no_number_is_not_near_one() {
    for output in ["nan", "inf", "NaN", "0x1", "one", "1e", "1.0.0"] {
        assert!(!accepts("float_tolerance 1e9", output, "1"), "{output}");
    }
    assert!(accepts("float_tolerance 1e-6", "YES 2.0", "yes 2"), "words stay words beside numbers");
    assert!(!accepts("float_tolerance 1e-6", "2", "yes"));
}

#[test]
fn a_wrong_flag_is_named() {
    let says = |flags: &str| {
        let words: Vec<_> = flags.split_whitespace().map(String::from).collect();
        Flags::parse(&words).unwrap_err()
    };
    assert!(says("float_tolerance").contains("float_tolerance needs a number"));
    assert!(says("float_tolerance x").contains("needs a number"));
    assert!(says("case_sensitive colour_sensitive").contains("colour_sensitive"));
}

#[test]
fn the_first_difference_is_told_with_its_line() {
    let flags = Flags::default();
    assert_eq!(flags.compare(b"1\n2\n4\n", b"1 2 3").unwrap_err(), r#"line 3: "4", and not "3""#);
    assert_eq!(flags.compare(b"1", b"1 2").unwrap_err(), r#"the output ends where "2" should be"#);
    assert_eq!(flags.compare(b"1\n2", b"1").unwrap_err(), r#"line 2: "2" is too much"#);
}
