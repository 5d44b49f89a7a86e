//! A container's default variables for its runs.

use std::path::Path;

use crate::error::{Failure, ResultExt, Step};
use crate::wire::Strings;

use super::files;

const ENVIRONMENT: &str = "/.env";

/// The variables of [`ENVIRONMENT`], if the container has that file: one `KEY=VALUE` a line, the
/// value taken literally. Empty lines and comments (`#`) are skipped. Any other line is
/// an error that names the line. `configured` variables come beneath those of the file.
pub(super) fn default_environment(configured: &Strings) -> Result<Strings, Failure> {
    let mut variables = Strings::default();
    let content = match files::read(Path::new(ENVIRONMENT)) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(configured.clone()),
        content => content.step_at(Step::ReadEnvironment, ENVIRONMENT)?,
    };
    for (number, line) in content.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if line.contains(&0) || !line.contains(&b'=') || line.starts_with(b"=") {
            let place = format!("{ENVIRONMENT}:{}", number + 1);
            return Err(Failure::at(Step::ReadEnvironment, place, nix::Error::EINVAL));
        }
        variables.push(&[line]);
    }
    variables.add_missing(configured, &Strings::default());
    Ok(variables)
}
