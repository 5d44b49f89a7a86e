//! The generator: replies made from the bytes of a script.

use crate::container::fuzzing::{
    CgroupVersion, Failure, GroupFigures, KillReason, Measurement, RawFingerprint, RawMetadata, Reply, Request, Step,
    WaitStatus,
};

/// A reply to this request or, by its kind, to another. The lower bits of the detail say which
/// results the reply has.
pub(super) fn reply(request: Option<&Request>, kind: u8, detail: u8) -> Reply {
    match kind % 23 {
        10 => Reply::Done,
        11 => Reply::Hello(detail.into()),
        12 => Reply::Started,
        13 => Reply::Opened(results(request, detail)),
        14 => Reply::Each(results(request, detail)),
        15 => Reply::Fingerprint(fingerprint(detail)),
        16 => Reply::Differs { first: RawFingerprint::default(), now: fingerprint(detail) },
        17 => Reply::Forked,
        18 => Reply::Ended(measurement(detail)),
        19 => Reply::Failed(failure(detail)),
        20 => Reply::Metadata(metadata(detail)),
        21 => Reply::Target("\0../".repeat(detail.into()).into()),
        22 => Reply::Directory,
        _ => match request {
            Some(Request::Open(_)) => Reply::Opened(results(request, detail)),
            Some(Request::Symlink(_) | Request::MakeDirectories(_) | Request::Delete(_)) => {
                Reply::Each(results(request, detail))
            }
            Some(Request::Metadata(_)) => Reply::Metadata(metadata(detail)),
            Some(Request::ReadLink(_)) => Reply::Target("t".into()),
            Some(Request::OpenDirectory(_)) => Reply::Directory,
            Some(Request::Fingerprint) => Reply::Fingerprint(RawFingerprint::default()),
            Some(Request::StartRun(_) | Request::StartBeside(_)) => Reply::Ended(measurement(detail)),
            _ => Reply::Done,
        },
    }
}

/// A result for each path of the request, or one result too many.
fn results(request: Option<&Request>, detail: u8) -> Vec<Option<Failure>> {
    let requested = match request {
        Some(Request::Open(files)) => files.len(),
        Some(Request::Symlink(links)) => links.len(),
        Some(Request::MakeDirectories(directories)) => directories.len(),
        Some(Request::Delete(paths)) => paths.len(),
        _ => 1,
    };
    let surplus = usize::from(detail & 7 == 7);
    let result = |number: usize| match detail & 3 {
        0 => None,
        1 => Some(failure(0)),
        _ => (number & 1 == 0).then(|| failure(detail)),
    };
    (0..requested + surplus).map(result).collect()
}

fn failure(detail: u8) -> Failure {
    const STEPS: [Step; 4] = [Step::Open, Step::EnterGroup, Step::Exec, Step::Send];
    const ERRNOS: [i32; 8] = [libc::ENOENT, 0, -1, i32::MAX, i32::MIN, libc::EAGAIN, libc::ENOMEM, 4096];
    let path = match detail & 0x60 {
        0x20 => Some("\x1b[31m\n\u{85}\u{202e}".into()),
        0x40 => Some("y".repeat(100).into()),
        _ => None,
    };
    Failure { step: STEPS[usize::from(detail) % 4], errno: ERRNOS[usize::from(detail >> 2) % 8], path }
}

fn metadata(detail: u8) -> RawMetadata {
    let most = detail & 0x80 != 0;
    RawMetadata {
        mode: if most { u32::MAX } else { u32::from(detail) << 9 },
        bytes: if most { u64::MAX } else { 0 },
        modified_seconds: if detail & 1 == 0 { i64::MIN } else { i64::MAX },
        modified_nanos: if most { u32::MAX } else { 0 },
        ..RawMetadata::default()
    }
}

fn fingerprint(detail: u8) -> RawFingerprint {
    RawFingerprint { limits: vec![(1, u64::MAX); detail.into()], ..RawFingerprint::default() }
}

fn measurement(detail: u8) -> Measurement {
    const DUMPED_CORE: i32 = 0x80;
    // Four statuses of processes that have ended, and four that no such process has.
    const STATUSES: [i32; 8] = [0, 3 << 8, 9, 64 | DUMPED_CORE, 256 << 8, -1, DUMPED_CORE, i32::MAX];
    let (most, count) = if detail & 0x80 == 0 { (0, None) } else { (u64::MAX, Some(u64::MAX)) };
    Measurement {
        status: WaitStatus(STATUSES[usize::from(detail & 7)]),
        killed: [None, Some(KillReason::Request), Some(KillReason::Output)][usize::from(detail >> 3) % 3],
        wall_us: most,
        set_up_us: count,
        user_us: most,
        system_us: most,
        peak_resident_bytes: most,
        group: count.map(|count| GroupFigures {
            version: CgroupVersion::V2,
            cpu_us: Some(count),
            memory_peak_bytes: Some(count),
            processes_peak: Some(count),
            oom_kills: Some(count),
            refused_forks: Some(count),
            throttled_us: Some(count),
        }),
    }
}
