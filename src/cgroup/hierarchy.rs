//! Where this process may make groups.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::CgroupSupport;

use super::proc_cgroup::ProcCgroup;
use super::v1::V1Hierarchies;
use super::v2::V2Parent;

#[derive(Clone, Debug)]
pub(crate) enum Hierarchy {
    V1(Arc<V1Hierarchies>),
    V2(Arc<V2Parent>),
}

impl Hierarchy {
    /// Finds where this process may make groups, and removes the groups that a dead host left
    /// there. The result is remembered once something is found.
    pub(crate) fn find() -> io::Result<Option<Self>> {
        static FOUND: Mutex<Option<Hierarchy>> = Mutex::new(None);
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        if found.is_none() {
            *found = Self::look_up()?;
        }
        Ok(found.clone())
    }

    fn look_up() -> io::Result<Option<Self>> {
        let (Some(groups), Some(mountinfo)) = (read("/proc/self/cgroup")?, read("/proc/self/mountinfo")?) else {
            // There is no proc, or the kernel has no control groups.
            return Ok(None);
        };
        let own = ProcCgroup::parse(&groups, &mountinfo);
        if let Some(hierarchies) = V1Hierarchies::find(&own) {
            return Ok(Some(Self::V1(Arc::new(hierarchies))));
        }
        Ok(V2Parent::find(&own).map(|parent| Self::V2(Arc::new(parent))))
    }

    /// What the groups that this process may make can limit.
    pub(crate) fn support(&self) -> CgroupSupport {
        match self {
            Self::V1(hierarchies) => hierarchies.support(),
            Self::V2(parent) => parent.support(),
        }
    }
}

/// The text of a file. `None` if the file does not exist.
fn read(path: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text.map(Some),
    }
}
