//! The cases that were finished, a line of JSON each, so that a grading that was broken off can go on.
//!
//! Invariant: a line is written whole once its case is finished, and counts only for the same sources, data and limits. What a
//! kill has cut off at the end is let be.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Failure;
use super::verdict::{CaseResult, Verdict};

#[derive(Serialize, Deserialize)]
struct Line {
    /// For whoever reads the file; the key is what counts.
    case: String,
    key: u64,
    result: CaseResult,
}

/// What is known from earlier, and where to write what is found out now.
#[derive(Default)]
pub struct Journal {
    known: HashMap<u64, CaseResult>,
    file: Option<Mutex<File>>,
}

impl Journal {
    /// Reads a journal, if it is there, and goes on writing it.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let failure = |error: std::io::Error| format!("--resume {}: {error}", path.display());
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failure)?;
        let text = std::io::read_to_string(&mut file).map_err(failure)?;
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let known: HashMap<_, _> = lines.map(|line| (line.key, line.result)).collect();
        if known.is_empty() && text.contains('\n') {
            return Err(format!("--resume {}: no line of it is a result; name another file", path.display()).into());
        }
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n").map_err(failure)?;
        }
        Ok(Self { known, file: Some(Mutex::new(file)) })
    }

    /// What came of a case earlier.
    pub fn known(&self, key: u64) -> Option<CaseResult> {
        self.known.get(&key).cloned()
    }

    /// Writes down what came of a case. What failed for the judge's own reasons is to be tried again.
    pub fn record(&self, case: &str, key: u64, result: &CaseResult) -> Result<(), Failure> {
        let Some(file) = self.file.as_ref().filter(|_| result.verdict != Verdict::JudgeError) else { return Ok(()) };
        let mut line = serde_json::to_vec(&Line { case: case.into(), key, result: result.clone() })?;
        line.push(b'\n');
        Ok(file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)?)
    }
}

/// The key of a case: whatever its result depends on.
pub fn key(parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}
