//! The descriptors that come with a configuration.
//!
//! Invariant: each has the role that the host gives it by name. A descriptor without a role, or
//! with a role for a mount that does not exist, is refused.

use std::os::fd::OwnedFd;

use crate::error::{Failure, Step};
use crate::wire::{Configure, ConfigureFd};

pub(super) struct Attached {
    /// The trees of each mount. A mount without any is made by the init.
    pub(super) trees: Vec<Vec<OwnedFd>>,
    /// What the container needs for as long as it lives.
    pub(super) kept: Vec<OwnedFd>,
}

impl Attached {
    pub(super) fn new(configure: &Configure, fds: Vec<OwnedFd>) -> Result<Self, Failure> {
        let malformed = || Failure::new(Step::Receive, nix::Error::EBADMSG);
        if configure.fds.len() != fds.len() {
            return Err(malformed());
        }
        let trees = configure.mounts.iter().map(|_| Vec::new()).collect();
        let mut attached = Self { trees, kept: Vec::new() };
        for (role, fd) in configure.fds.iter().zip(fds) {
            match role {
                ConfigureFd::MountTree(mount) => attached.trees.get_mut(*mount).ok_or_else(malformed)?.push(fd),
                ConfigureFd::IdReservation | ConfigureFd::ImageInUse => attached.kept.push(fd),
            }
        }
        Ok(attached)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::wire::{FilterChoice, Ids, MountEntry, MountKind, Strings};

    fn attached(roles: &[ConfigureFd], count: usize) -> Result<(Vec<usize>, usize), i32> {
        let mount = |target: &str| MountEntry { target: target.into(), kind: MountKind::Proc(None) };
        let configure = Configure {
            mounts: vec![mount("/a"), mount("/b")],
            symlinks: Vec::new(),
            masked: Vec::new(),
            program: Ids { uid: 1, gid: 1 },
            hostname: String::new(),
            domainname: String::new(),
            work_dir: "/w".into(),
            env: Strings::default(),
            filter: FilterChoice::Off,
            clones_into_group: false,
            loopback: false,
            fds: roles.to_vec(),
        };
        let fds = (0..count).map(|_| File::open("/dev/null").expect("it opens").into()).collect();
        let attached = Attached::new(&configure, fds).map_err(|failure| failure.errno)?;
        Ok((attached.trees.iter().map(Vec::len).collect(), attached.kept.len()))
    }

    #[test]
    fn a_descriptor_goes_where_its_role_says_or_is_refused() {
        use ConfigureFd::{IdReservation, MountTree};
        assert_eq!(attached(&[IdReservation, MountTree(1), MountTree(1)], 3), Ok((vec![0, 2], 1)), "in any order");
        assert_eq!(attached(&[], 0), Ok((vec![0, 0], 0)));
        assert_eq!(attached(&[], 1), Err(libc::EBADMSG), "no role");
        assert_eq!(attached(&[IdReservation], 0), Err(libc::EBADMSG), "no descriptor");
        assert_eq!(attached(&[MountTree(2)], 1), Err(libc::EBADMSG), "no such mount");
    }
}
