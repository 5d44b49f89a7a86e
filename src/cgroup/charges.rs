//! The memory that is charged to a group between two runs, and after the last one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How much may be charged to a group before a run. The next run's peak is too large by no more
/// than that.
const LITTLE: u64 = 1 << 20;

/// The file that says how much memory is charged to a group. A read of it does not block.
#[derive(Debug)]
pub(super) struct Charges(File);

impl Charges {
    pub(super) fn new(usage: File) -> Self {
        Self(usage)
    }

    /// Whether more than a little is charged, or the file cannot tell.
    pub(super) fn are_many(&self) -> bool {
        self.read().map_or(true, |bytes| bytes > LITTLE)
    }

    fn read(&self) -> io::Result<u64> {
        let mut buffer = [0; 32];
        let size = self.0.read_at(&mut buffer, 0)?;
        let text = std::str::from_utf8(&buffer[..size]).map_err(io::Error::other)?;
        text.trim().parse().map_err(io::Error::other)
    }
}

/// How many memory groups the machine may have before groups are emptied at their end.
const MANY: u64 = 1000;

/// Whether the machine has many memory groups.
///
/// The kernel keeps a removed group for as long as pages are charged to it: those of the files that
/// its runs were the first to read. Other runs read the same files, so the pages stay in memory as
/// long as the kernel has room for them, unless the groups that are kept for them become too many.
pub(super) fn are_many(group: &Path) -> bool {
    count_groups(group) > MANY
}

/// Has the kernel drop the pages that are charged to a group without processes. May take seconds.
pub(super) fn empty(group: &Path) {
    let write = |file: &str, value: &str| {
        OpenOptions::new().write(true).open(group.join(file)).and_then(|mut file| file.write_all(value.as_bytes()))
    };
    // The kernel drops what it can. Nothing is lost by the rest.
    if write("memory.force_empty", "0").is_err() {
        let bytes = fs::read_to_string(group.join("memory.current")).unwrap_or_default();
        write("memory.reclaim", bytes.trim()).ok();
    }
}

/// The number of memory groups, including removed groups that the kernel keeps.
fn count_groups(group: &Path) -> u64 {
    let number_after = |text: &str, key: &str, column: usize| {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(key))?;
        line.split_whitespace().nth(column)?.parse().ok()
    };
    let count = if group.join("memory.force_empty").exists() {
        fs::read_to_string("/proc/cgroups").ok().and_then(|text| number_after(&text, "memory", 2))
    } else {
        let parent = group.parent().map(|parent| parent.join("cgroup.stat"));
        let text = parent.and_then(|file| fs::read_to_string(file).ok());
        text.and_then(|text| number_after(&text, "nr_dying_descendants", 1))
    };
    count.unwrap_or(0)
}
