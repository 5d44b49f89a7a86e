//! The journal of finished cases, a line of JSON each, from which an interrupted grading resumes.
//!
//! Invariant: a line is written when its case has finished. It is used only for the same sources,
//! data and limits. A line that a kill has cut off is ignored.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::result::{CaseResult, CaseVerdict};

#[derive(Serialize, Deserialize)]
struct Line {
    /// For readers of the file. Only the key is used.
    case: String,
    key: u64,
    result: CaseResult,
}

/// The results of an earlier grading, and the file for new ones.
#[derive(Default)]
pub struct Journal {
    results: HashMap<u64, CaseResult>,
    file: Option<Mutex<File>>,
}

impl Journal {
    /// Opens or creates a journal.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let failure = |error: io::Error| format!("--resume {}: {error}", path.display());
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failure)?;
        let text = io::read_to_string(&mut file).map_err(failure)?;
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let results: HashMap<_, _> = lines.map(|line| (line.key, line.result)).collect();
        if results.is_empty() && text.contains('\n') {
            return Err(format!("--resume {}: no line is a result; name another file", path.display()).into());
        }
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n").map_err(failure)?;
        }
        Ok(Self { results, file: Some(Mutex::new(file)) })
    }

    /// The earlier result of a case.
    pub fn result(&self, key: u64) -> Option<CaseResult> {
        self.results.get(&key).cloned()
    }

    /// Records the result of a case. A failure of the judge is not recorded, so that it is retried.
    pub fn record(&self, case: &str, key: u64, result: &CaseResult) -> Result<(), Failure> {
        let Some(file) = &self.file else { return Ok(()) };
        if result.verdict == CaseVerdict::JudgeError {
            return Ok(());
        }
        let mut line = serde_json::to_vec(&Line { case: case.into(), key, result: result.clone() })?;
        line.push(b'\n');
        Ok(file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)?)
    }
}

/// The key of a case, a hash of everything that its result depends on.
pub fn key(parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}
