//! Parts of the responses: failures, and bytes in JSON.

use std::io;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cellblock::ErrorKind;
use serde::Serialize;
use serde_json::Value;

#[derive(Serialize)]
pub struct Failure {
    kind: Kind,
    step: Option<&'static str>,
    errno: Option<i32>,
    message: String,
    retryable: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Killed,
    #[serde(untagged)]
    Library(ErrorKind),
}

impl Failure {
    pub fn new(kind: Kind, message: impl ToString) -> Self {
        Self { kind, step: None, errno: None, message: message.to_string(), retryable: false }
    }

    pub fn invalid(message: impl ToString) -> Self {
        Self::new(Kind::Library(ErrorKind::InvalidInput), message)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let (kind, errno) = (Kind::Library(ErrorKind::Host), error.raw_os_error());
        Self { step: Some("read"), errno, ..Self::new(kind, error.to_string()) }
    }
}

impl From<cellblock::Error> for Failure {
    fn from(error: cellblock::Error) -> Self {
        Self {
            kind: Kind::Library(error.kind()),
            step: error.step(),
            errno: error.raw_os_error(),
            message: error.to_string(),
            retryable: error.is_retryable(),
        }
    }
}

/// Adds bytes to an object: as text or, if they are not UTF-8, in base64 under `NAME_base64`.
pub fn with_bytes(mut object: Value, name: &str, bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => object[name] = text.into(),
        Err(error) => object[format!("{name}_base64")] = BASE64_STANDARD.encode(error.as_bytes()).into(),
    }
    object
}

/// Decodes the bytes of a request, which has them under exactly one of two names.
pub fn decode_bytes(data: Option<String>, data_base64: Option<String>) -> Result<Vec<u8>, Failure> {
    match (data, data_base64) {
        (Some(data), None) => Ok(data.into()),
        (None, Some(data)) => {
            BASE64_STANDARD.decode(data).map_err(|error| Failure::invalid(format!("data_base64: {error}")))
        }
        _ => Err(Failure::invalid("give either data or data_base64")),
    }
}
