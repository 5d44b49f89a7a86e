//! What an image's configuration sets for its programs.

use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

/// The defaults that an image has for its programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImageConfig {
    /// Variables, each with its value.
    pub env: Vec<(String, String)>,
    /// The working directory.
    pub work_dir: Option<String>,
    /// The user, and perhaps the group: names or numbers, as `1000:1000`.
    pub user: Option<String>,
    /// The program and its arguments: the image's entry point, then its command.
    pub command: Vec<String>,
}

impl ImageConfig {
    /// Whether a program can be started with it.
    pub(super) fn is_usable(&self) -> bool {
        let variables = self.env.iter().flat_map(|(key, value)| [key, value]);
        let mut texts = variables.chain(&self.work_dir).chain(&self.user).chain(&self.command);
        texts.all(|text| !text.contains('\0')) && self.env.iter().all(|(key, _)| !key.is_empty())
    }
}

impl From<&ImageConfiguration> for ImageConfig {
    fn from(image: &ImageConfiguration) -> Self {
        let Some(config) = image.config() else { return Self::default() };
        let variable = |text: &String| text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        let text = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
        Self {
            env: config.env().iter().flatten().filter_map(variable).collect(),
            work_dir: text(config.working_dir()),
            user: text(config.user()),
            command: [config.entrypoint(), config.cmd()].into_iter().flatten().flatten().cloned().collect(),
        }
    }
}
