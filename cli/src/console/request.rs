//! The requests, one JSON object a line.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
pub struct Request {
    pub id: Value,
    pub container: Option<String>,
    #[serde(flatten)]
    pub op: Op,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    Build(BuildRequest),
    Run(RunRequest),
    Kill { run: Value },
    Reset {},
    Write { path: PathBuf, data: Option<String>, data_base64: Option<String>, mode: Option<u32> },
    Read { path: PathBuf, limit_bytes: Option<u64> },
    Symlink { target: PathBuf, path: PathBuf },
    Delete { path: PathBuf },
    Ping {},
    Destroy {},
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildRequest {
    #[serde(default)]
    pub binds: Vec<String>,
    pub tmpfs_bytes: Option<u64>,
    /// What the container's "/" is made of.
    pub image: Option<PathBuf>,
    /// A command that the build runs.
    pub setup: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    pub args: Vec<String>,
    pub env: Option<Vec<String>>,
    #[serde(default)]
    pub stdin: String,
    pub capture_bytes: Option<u64>,
    /// Whether the program starts beside the one that runs, and takes no turn.
    #[serde(default)]
    pub beside: bool,
    /// [`cellblock::Limits`]. They are parsed later, so that the response to a mistake in them has
    /// this request's id.
    #[serde(default)]
    pub limits: Map<String, Value>,
}
