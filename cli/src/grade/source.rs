//! The sources of a program.
//!
//! Invariant: sources are read on the host and never executed there.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use super::files::{Origin, ProgramFile};
use super::languages::{self, Language};

/// The sources of a program: one file, or a folder of files.
#[derive(Debug)]
pub struct Source {
    pub name: String,
    pub files: Vec<ProgramFile>,
    language: Option<String>,
    entry_point: Option<String>,
}

impl Source {
    pub fn read(path: &Path, origin: Origin) -> Result<Self, String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, files: ProgramFile::read_all(path, origin)?, language: None, entry_point: None })
    }

    /// Sets what the package declares.
    pub fn declare(&mut self, language: Option<String>, entry_point: Option<String>) {
        (self.language, self.entry_point) = (language, entry_point);
    }

    /// Adds the files that the package includes in every submission of this language. They replace
    /// the submission's own.
    pub fn include(&mut self, dir: &Path) -> Result<(), String> {
        let Ok(language) = self.language() else { return Ok(()) };
        for folder in [dir.join("default"), dir.join(language.code)] {
            if folder.is_dir() {
                let mut files = ProgramFile::read_all(&folder, Origin::Package)?;
                self.files.retain(|own| files.iter().all(|file| file.path != own.path));
                self.files.append(&mut files);
            }
        }
        Ok(())
    }

    /// Whether it can be built or run: a header alone cannot.
    pub fn is_program(&self) -> bool {
        self.has_scripts() || self.language().is_ok()
    }

    /// Whether it brings scripts that build or run it.
    pub fn has_scripts(&self) -> bool {
        self.has_file("build") || self.has_file("run")
    }

    pub fn has_file(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.path == Path::new(name))
    }

    /// The declared language, or the one language of its files.
    pub fn language(&self) -> Result<&'static Language, String> {
        if let Some(code) = &self.language {
            return languages::by_code(code).ok_or_else(|| format!("the language {code} is not supported"));
        }
        let mut found = self.files.iter().filter_map(|file| languages::by_extension(&file.path));
        let first = found.next().ok_or_else(|| format!("{}: no language has this extension", self.name))?;
        match found.find(|language| language.code != first.code) {
            Some(other) => Err(format!("{}: both {} and {}", self.name, first.code, other.code)),
            None => Ok(first),
        }
    }

    /// The paths of the files in a language.
    pub fn paths_in(&self, language: &Language) -> Vec<String> {
        let is_in =
            |file: &&ProgramFile| languages::by_extension(&file.path).is_some_and(|it| it.code == language.code);
        self.files.iter().filter(is_in).map(|file| file.path.display().to_string()).collect()
    }

    /// The file that a run begins with: the declared one, one of the usual names, or the first.
    pub fn entry_point(&self, language: &Language, paths: &[String]) -> String {
        let extension = language.extensions[0];
        let with_extension =
            |name: &String| if name.contains('.') { name.clone() } else { format!("{name}.{extension}") };
        let declared = self.entry_point.as_ref().map(with_extension);
        let usual = ["main", "Main", "__main__"].map(|name| format!("{name}.{extension}"));
        let found = declared.into_iter().chain(usual).find(|name| paths.contains(name));
        found.or_else(|| paths.first().cloned()).unwrap_or_default()
    }

    /// A number that changes with the content.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.files, &self.language, &self.entry_point).hash(&mut hasher);
        hasher.finish()
    }
}
