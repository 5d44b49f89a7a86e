//! The requests, one JSON object a line.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::environment::PATH;

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
    Build {
        #[serde(default)]
        binds: Vec<String>,
        tmpfs_bytes: Option<u64>,
    },
    Run(RunRequest),
    Kill {
        run: Value,
    },
    Reset {},
    Write {
        path: PathBuf,
        data: Option<String>,
        data_base64: Option<String>,
        mode: Option<u32>,
    },
    Read {
        path: PathBuf,
        limit_bytes: Option<u64>,
    },
    Symlink {
        target: PathBuf,
        path: PathBuf,
    },
    Delete {
        path: PathBuf,
    },
    Ping {},
    Destroy {},
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    pub args: Vec<String>,
    #[serde(default = "default_env")]
    pub env: Vec<String>,
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

fn default_env() -> Vec<String> {
    vec![format!("PATH={PATH}")]
}
