//! The steps that can fail.
//!
//! Invariant: [`Step`] is the only list of them, on both sides of the socket.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! steps {
    ($($variant:ident $name:literal: $phrase:literal,)*) => {
        /// A step that can fail, on either side of the socket. It displays as a verb phrase.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub(crate) enum Step {
            $(#[doc = $phrase] $variant,)*
        }

        impl Step {
            /// The step's public name: `Error::step`.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl fmt::Display for Step {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $phrase,)*
                })
            }
        }
    };
}

steps! {
    // The host, building a container.
    CheckArguments "check_arguments": "check arguments",
    ReadInitExecutable "read_init_executable": "read the init's executable",
    MakeSocket "make_socket": "make the init's socket",
    ReserveIds "reserve_ids": "reserve user and group ids",
    StartInit "start_init": "start the init",
    MapIds "map_ids": "map user and group ids",
    Hello "hello": "wait for the init's hello",
    OpenBindSource "open_bind_source": "open bind source",
    MapOwners "map_owners": "map the owners of",
    // The host, preparing an image.
    OpenStore "open_store": "open the image store",
    ReadImage "read_image": "read the image",
    Unpack "unpack": "unpack",
    LinkTree "link_tree": "link the image's files:",
    WriteStore "write_store": "write to the image store",
    FindImage "find_image": "find the image",
    // The init, becoming pid 1.
    Unshare "unshare": "unshare namespaces",
    TakeIds "take_ids": "take user and group id 0",
    ForkPid1 "fork_pid1": "fork pid 1",
    ResetInherited "reset_inherited": "reset inherited state",
    // The init, making the root file system.
    MakeMountsPrivate "make_mounts_private": "make mounts private",
    MountRoot "mount_root": "mount the root tmpfs on",
    Mount "mount": "mount",
    PivotRoot "pivot_root": "pivot_root",
    DetachOldRoot "detach_old_root": "detach the old root",
    RemoveOldRoot "remove_old_root": "remove the old root",
    EnterRoot "enter_root": "enter the root",
    MakeSymlink "make_symlink": "make symbolic link",
    Mask "mask": "mask",
    MakeRootReadOnly "make_root_read_only": "make the root read-only",
    ForbidNamespaces "forbid_namespaces": "forbid nested user namespaces",
    InstallFilter "install_filter": "install the system-call filter",
    RaiseLoopback "raise_loopback": "bring the loopback up",
    SetDomainName "set_domain_name": "set the domain name",
    SetHostName "set_host_name": "set the host name",
    ChangeDirectory "change_directory": "change directory to",
    ReadEnvironment "read_environment": "read the environment of",
    SetUp "set_up": "run the set-up command",
    // Files.
    MakeDirectory "make_directory": "make directory",
    Open "open": "open",
    CheckRegularFile "check_regular_file": "expect a regular file at",
    SetOwner "set_owner": "set the owner of",
    Read "read": "read",
    Write "write": "write",
    Delete "delete": "delete",
    Rename "rename": "rename",
    ReadMetadata "read_metadata": "read the metadata of",
    ReadLink "read_link": "read the link",
    ReadDirectory "read_directory": "read the directory",
    Copy "copy": "copy",
    ReadTar "read_tar": "read the tar stream",
    WriteTar "write_tar": "write the tar stream",
    Unmount "unmount": "unmount",
    Freeze "freeze": "freeze",
    NewIpcNamespace "new_ipc_namespace": "make a new IPC namespace",
    NewNetNamespace "new_net_namespace": "make a new network namespace",
    TakeFingerprint "take_fingerprint": "take a fingerprint",
    CompareFingerprint "compare_fingerprint": "compare with the first fingerprint",
    // A run.
    MakeStream "make_stream": "make a stream",
    HoldLimit "hold_limit": "hold the limit",
    MakeGroup "make_group": "make the control group",
    LimitGroup "limit_group": "set the control group's",
    RemoveGroup "remove_group": "remove the control group",
    Clone "clone": "clone",
    FindRun "find_run": "find the run",
    EnterPidNamespace "enter_pid_namespace": "make a pid namespace",
    Signal "signal": "send a signal",
    PidHook "pid_hook": "run the pid hook",
    EnterGroup "enter_group": "enter the control group",
    ReadGroup "read_group": "read the control group's figures",
    LiftRate "lift_rate": "remove the CPU rate limit",
    ReadProcesses "read_processes": "read the processes' figures",
    SetAffinity "set_affinity": "set the CPU affinity",
    StartSession "start_session": "start a session",
    PlaceFd "place_fd": "place a file descriptor",
    TakeTerminal "take_terminal": "take the controlling terminal",
    SetLimit "set_limit": "set a resource limit",
    SetIds "set_ids": "set user and group ids",
    DropCapabilities "drop_capabilities": "drop capabilities",
    RestrictFiles "restrict_files": "restrict how files can be reopened",
    ClearSignalMask "clear_signal_mask": "clear the signal mask",
    Exec "exec": "execute",
    Wait "wait": "wait",
    // The protocol.
    Send "send": "send to the init",
    Receive "receive": "receive from the init",
    Ping "ping": "ping",
    Serve "serve": "serve",
    // A pool.
    Lease "lease": "lease a container",
}
