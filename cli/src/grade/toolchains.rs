//! The compilers and interpreters of this machine, or of an image.
//!
//! Invariant: a tool counts as found only if a container can see it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use cellblock::{Container, ContainerBuilder, Mount};
use rustix::fs::{Access, access};

use super::failure::Failure;
use super::languages::{LANGUAGES, Language};

/// The tools that were found, and the mounts that show them to a container.
pub struct Toolchains {
    /// By the code of the language.
    tools: BTreeMap<&'static str, PathBuf>,
    mounts: Vec<Mount>,
}

impl Toolchains {
    /// Looks for the tools of every language.
    pub fn find() -> Self {
        let mut toolchains = Self { tools: BTreeMap::new(), mounts: Vec::new() };
        for language in LANGUAGES {
            let found = language.tools.iter().find_map(|tool| toolchains.find_tool(tool));
            toolchains.tools.extend(found.map(|path| (language.code, path)));
        }
        toolchains
    }

    /// Asks a container of an image for the tools, which are in the image's PATH.
    pub async fn find_in(container: &Container) -> Result<Self, Failure> {
        let mut look = cellblock::Command::new("/bin/sh");
        look.args(["-c", r#"for tool; do command -v "$tool" || echo; done"#, "sh"]);
        look.args(LANGUAGES.iter().flat_map(|language| language.tools));
        let output = container.output(&look).await?;
        let paths = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut paths = paths.lines().map(|path| Some(PathBuf::from(path)).filter(|path| path.is_absolute()));
        let mut tools = BTreeMap::new();
        for language in LANGUAGES {
            // Each tool has a line.
            let found: Vec<_> = paths.by_ref().take(language.tools.len()).flatten().collect();
            tools.extend(found.into_iter().next().map(|path| (language.code, path)));
        }
        Ok(Self { tools, mounts: Vec::new() })
    }

    /// Adds the mounts to a builder.
    pub fn mount(&self, builder: ContainerBuilder) -> ContainerBuilder {
        self.mounts.iter().cloned().fold(builder, ContainerBuilder::mount)
    }

    /// The path of a language's tool inside a container. An error names the missing tools.
    pub fn tool(&self, language: &Language) -> Result<&Path, String> {
        let tool = self.tools.get(language.code).map(PathBuf::as_path);
        tool.ok_or_else(|| format!("there is no {} that a container can see", language.tools.join(" or ")))
    }

    /// Looks for a tool. Adds a mount if the tool is not in a directory that every container has.
    fn find_tool(&mut self, tool: &'static str) -> Option<PathBuf> {
        let paths = ["/usr/local/bin", "/usr/bin", "/bin"].map(|dir| Path::new(dir).join(tool));
        if let Some(path) = paths.into_iter().find(|path| is_visible(path)) {
            return Some(path);
        }
        // These are often installed elsewhere, and they print where.
        let (query, target) = match tool {
            "rustc" => (["--print", "sysroot"], "/opt/rust"),
            "go" => (["env", "GOROOT"], "/opt/go"),
            _ => return None,
        };
        let output = Command::new(tool).args(query).output().ok().filter(|output| output.status.success())?;
        let source = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
        let program = Path::new("bin").join(tool);
        access(source.join(&program), Access::EXEC_OK).ok()?;
        self.mounts.push(Mount::bind(source, target));
        Some(Path::new(target).join(program))
    }
}

/// Whether a path is a program in a directory that every container has.
fn is_visible(path: &Path) -> bool {
    let real = path.canonicalize().ok().filter(|real| access(real, Access::EXEC_OK).is_ok());
    real.is_some_and(|real| ["/usr", "/bin", "/lib"].iter().any(|dir| real.starts_with(dir)))
}
