//! Which files of a tree a copy takes.

use std::path::Path;

use super::pattern::Pattern;

/// What a copy does with a symbolic link. No copy follows one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Links {
    /// The copy is a link with the same target. The default.
    #[default]
    Keep,
    /// The link is left out.
    Skip,
    /// The copy fails, and names the link.
    Refuse,
}

/// The files that a copy takes.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    pub(super) pattern: Option<Pattern>,
    pub(super) links: Links,
    /// Whether everything but regular files is left out.
    pub(super) only_files: bool,
}

impl Selection {
    pub(super) fn takes(&self, path: &Path) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.matches(path))
    }

    pub(super) fn may_take_below(&self, dir: &Path) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.may_match_below(dir))
    }

    pub(super) fn links(&self) -> Links {
        self.links
    }

    pub(super) fn is_of_files(&self) -> bool {
        self.only_files
    }
}
