//! The running kernel's release.

/// The first two numbers of a kernel's release, as `/proc/sys/kernel/osrelease` has it.
pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|it: char| !it.is_ascii_digit()).map_while(|number| number.parse().ok());
    numbers.next().zip(numbers.next())
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn a_release_begins_with_two_numbers() {
        assert_eq!(version("6.8.0-31-generic\n"), Some((6, 8)));
        assert_eq!(version("5.10.0-28-amd64"), Some((5, 10)));
        assert_eq!(version(""), None);
    }
}
