//! What stops a grading.

use std::error::Error;

/// A failure of the machine or of the input, not of a submission.
pub type Failure = Box<dyn Error + Send + Sync>;
