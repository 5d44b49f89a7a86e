//! The generator: replies made from the bytes of a script.

use std::time::Duration;

use crate::container::Fingerprint;
use crate::container::fuzzing::{Failure, Measured, Reason, Reply, Request, Step};
use crate::limits::Limit;
use crate::report::{Evidence, Sources, Status, Usage};

/// A reply to this request or, by its kind, to another. The lower bits of the detail say which results the reply has.
pub(super) fn reply(request: Option<&Request>, kind: u8, detail: u8) -> Reply {
    match kind % 20 {
        10 => Reply::Done,
        11 => Reply::Hello(detail.into()),
        12 => Reply::Started,
        13 => Reply::Opened(results(request, detail)),
        14 => Reply::Linked(results(request, detail)),
        15 => Reply::Fingerprint(Fingerprint { limits: vec![(1, u64::MAX); detail.into()], ..Fingerprint::default() }),
        16 => Reply::Differs(vec!["\x1b[31m\n".repeat(detail.into()); 3]),
        17 => Reply::Forked,
        18 => Reply::Ended(measured(detail)),
        19 => Reply::Failed(failure(detail)),
        _ => match request {
            Some(Request::Open(_)) => Reply::Opened(results(request, detail)),
            Some(Request::Symlink(_)) => Reply::Linked(results(request, detail)),
            Some(Request::Fingerprint) => Reply::Fingerprint(Fingerprint::default()),
            Some(Request::StartRun(_)) => Reply::Ended(measured(detail)),
            _ => Reply::Done,
        },
    }
}

/// A result for each file or link of the request, or one result too many.
fn results(request: Option<&Request>, detail: u8) -> Vec<Option<Failure>> {
    let requested = match request {
        Some(Request::Open(files)) => files.len(),
        Some(Request::Symlink(links)) => links.len(),
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

fn measured(detail: u8) -> Measured {
    const STATUSES: [Status; 8] = [
        Status::Exited(0),
        Status::Exited(3),
        Status::Signaled { signal: 9, core_dumped: false },
        Status::Signaled { signal: 64, core_dumped: true },
        Status::Exited(256),
        Status::Exited(-1),
        Status::Signaled { signal: 0, core_dumped: false },
        Status::Signaled { signal: i32::MAX, core_dumped: false },
    ];
    let most = Duration::from_micros(u64::MAX);
    let (time, count) = if detail & 0x80 == 0 { (None, None) } else { (Some(most), Some(u64::MAX)) };
    Measured {
        status: STATUSES[usize::from(detail & 7)],
        killed: [None, Some(Reason::Request), Some(Reason::Limit(Limit::Output))][usize::from(detail >> 3) % 3],
        usage: Usage {
            wall: time,
            cpu: time,
            user: time,
            system: time,
            memory_peak_bytes: count,
            processes_peak: count,
            set_up: time,
        },
        sources: Sources::default(),
        evidence: Evidence {
            oom_kills: count,
            refused_forks: count,
            throttled: time,
            output_exceeded: Some(true),
            cpu_overshoot: time,
        },
    }
}
