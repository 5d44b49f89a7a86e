//! What may be asked, one JSON object a line.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
pub(crate) struct Request {
    pub(crate) id: Value,
    pub(crate) container: Option<String>,
    #[serde(flatten)]
    pub(crate) op: Op,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Op {
    Build {
        #[serde(default)]
        binds: Vec<String>,
        tmpfs_bytes: Option<u64>,
    },
    Run(Run),
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
pub(crate) struct Run {
    pub(crate) args: Vec<String>,
    #[serde(default = "default_env")]
    pub(crate) env: Vec<String>,
    #[serde(default)]
    pub(crate) stdin: String,
    pub(crate) capture_bytes: Option<u64>,
    /// [`Limits`], looked at later: so that a mistake there is answered under this request's id.
    #[serde(default)]
    pub(crate) limits: Map<String, Value>,
}

fn default_env() -> Vec<String> {
    vec!["PATH=/usr/local/bin:/usr/bin:/bin".to_owned()]
}
