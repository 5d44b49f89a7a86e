//! The runs beside the main one.
//!
//! Invariant: a run beside another one begins only while that one is going on, and is over before
//! that one is. Each has a control group of its own, which blocking threads make and remove.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet, spawn_blocking};

use crate::cgroup::{JoinRequest, PlaceBeside, RunGroup};
use crate::container::message::{QueuedRun, RunKey};
use crate::container::reply::no_run_to_be_beside;
use crate::error::{Error, ErrorKind, Failure, Result, Step};
use crate::report::Protections;
use crate::wire::{Request, StartBeside};

use super::link::Link;
use super::live_run::{LiveRun, RunEvent};

/// How many runs may be beside one.
const MOST: usize = 64;

pub(super) struct Besides {
    runs: Vec<Beside>,
    /// Remove the groups of the runs that are over.
    removals: JoinSet<()>,
    protections: Protections,
    reply_timeout: Duration,
}

struct Beside {
    /// The id of the run that it is beside.
    main: u64,
    key: RunKey,
    stage: Stage,
    group: Option<Box<RunGroup>>,
}

enum Stage {
    /// The group is being made.
    AwaitingGroup(JoinHandle<Result<ReadyGroup, Failure>>, Box<QueuedRun>),
    Sent(LiveRun),
}

pub(super) struct ReadyGroup {
    group: Box<RunGroup>,
    join: Option<JoinRequest>,
}

/// What happens to a run beside the main one.
pub(super) enum BesideEvent {
    GroupIsReady(Result<ReadyGroup>),
    Run(RunEvent),
}

impl Besides {
    pub(super) fn new(protections: Protections, reply_timeout: Duration) -> Self {
        Self { runs: Vec::new(), removals: JoinSet::new(), protections, reply_timeout }
    }

    /// Begins a run beside the run `main`. `None`: no run is going on. `place` says where its group
    /// can be made, if the runs have groups.
    pub(super) fn begin(
        &mut self,
        main: Option<u64>,
        place: Option<PlaceBeside>,
        run: QueuedRun,
        link: &mut Link,
    ) -> Result<()> {
        let Some(main) = main else {
            refuse(run, no_run_to_be_beside());
            return Ok(());
        };
        if self.runs.len() >= MOST {
            let busy =
                Error::new(ErrorKind::Busy, Step::FindRun).detail(format!("{MOST} programs run beside this one"));
            refuse(run, busy);
            return Ok(());
        }
        let key = run.key;
        let Some(place) = place else {
            let sent = self.send(main, run, None, link)?;
            self.runs.extend(sent.map(|run| Beside { main, key, stage: Stage::Sent(run), group: None }));
            return Ok(());
        };
        let limits = run.group.clone();
        let task = spawn_blocking(move || {
            let mut group = Box::new(place.make()?);
            group.prepare(&limits)?;
            let join = group.take_join();
            group.begin_run();
            Ok(ReadyGroup { group, join })
        });
        self.runs.push(Beside { main, key, stage: Stage::AwaitingGroup(task, Box::new(run)), group: None });
        Ok(())
    }

    /// Resolves with the next event and the run that it is about. Dropping the future loses
    /// nothing.
    pub(super) async fn event(&mut self) -> (RunKey, BesideEvent) {
        poll_fn(|context| {
            for run in &mut self.runs {
                let event = match &mut run.stage {
                    Stage::AwaitingGroup(task, _) => Pin::new(task).poll(context).map(|made| {
                        let made = made.map_err(|error| Error::io(ErrorKind::Host, Step::MakeGroup, error));
                        let failed = |failure| Error::failure(ErrorKind::Host, failure);
                        BesideEvent::GroupIsReady(made.and_then(|made| made.map_err(failed)))
                    }),
                    Stage::Sent(run) => pin!(run.event()).poll(context).map(BesideEvent::Run),
                };
                if let Poll::Ready(event) = event {
                    return Poll::Ready((run.key, event));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// `main` is the run that is going on, if one is.
    pub(super) fn handle(
        &mut self,
        (key, event): (RunKey, BesideEvent),
        main: Option<u64>,
        link: &mut Link,
    ) -> Result<()> {
        let Some(place) = self.runs.iter().position(|run| run.key == key) else { return Ok(()) };
        match event {
            BesideEvent::Run(event) => match &mut self.runs[place].stage {
                Stage::Sent(run) => run.handle(event, link),
                Stage::AwaitingGroup(..) => Ok(()),
            },
            BesideEvent::GroupIsReady(group) => {
                let beside = self.runs.swap_remove(place);
                self.start(beside, group, main, link)
            }
        }
    }

    /// Sends a run whose group is made, unless the run that it is to be beside is over.
    fn start(
        &mut self,
        Beside { main, key, stage, .. }: Beside,
        group: Result<ReadyGroup>,
        current: Option<u64>,
        link: &mut Link,
    ) -> Result<()> {
        let Stage::AwaitingGroup(_, run) = stage else { return Ok(()) };
        let ReadyGroup { group, join } = match group {
            Ok(group) => group,
            Err(error) => {
                run.outcome.send(Err(error)).ok();
                return Ok(());
            }
        };
        let sent = if current != Some(main) {
            refuse(*run, no_run_to_be_beside());
            None
        } else if run.outcome.is_closed() {
            None
        } else {
            self.send(main, *run, join, link)?
        };
        match sent {
            Some(run) => self.runs.push(Beside { main, key, stage: Stage::Sent(run), group: Some(group) }),
            None => self.remove(group),
        }
        Ok(())
    }

    fn send(&self, main: u64, run: QueuedRun, join: Option<JoinRequest>, link: &mut Link) -> Result<Option<LiveRun>> {
        LiveRun::send(run, self.protections, self.reply_timeout, link, |run, mut fds| {
            let group = join.map(|(files, of_group)| {
                fds.extend(of_group);
                files
            });
            (Request::StartBeside(StartBeside { main, run, group }), fds)
        })
    }

    /// Takes the run with this id out of the list: its reply has come.
    pub(super) fn finish(&mut self, id: u64) {
        let is_it = |beside: &mut Beside| matches!(&beside.stage, Stage::Sent(run) if run.id() == id);
        let group = self.runs.extract_if(.., is_it).find_map(|beside| beside.group);
        group.into_iter().for_each(|group| self.remove(group));
    }

    /// Drops the runs that the init has not been sent.
    pub(super) fn clear_unsent(&mut self) {
        let is_unsent = |beside: &mut Beside| matches!(beside.stage, Stage::AwaitingGroup(..));
        for beside in self.runs.extract_if(.., is_unsent) {
            if let Stage::AwaitingGroup(task, _) = beside.stage {
                self.removals.spawn(async {
                    let made = task.await.ok().and_then(Result::ok);
                    // The group goes in the background if the runtime ends.
                    drop(made);
                });
            }
        }
    }

    /// The runs that the init has been sent.
    pub(super) fn sent(&self) -> impl Iterator<Item = &LiveRun> {
        self.runs.iter().filter_map(|beside| match &beside.stage {
            Stage::Sent(run) => Some(run),
            Stage::AwaitingGroup(..) => None,
        })
    }

    /// The run with this id.
    pub(super) fn find(&mut self, id: u64) -> Option<&mut LiveRun> {
        self.runs.iter_mut().find_map(|beside| match &mut beside.stage {
            Stage::Sent(run) if run.id() == id => Some(run),
            _ => None,
        })
    }

    /// Lifts the CPU rates before the processes of the container are killed.
    pub(super) async fn lift_rates(&mut self) {
        for beside in &mut self.runs {
            if let Some(group) = beside.group.take_if(|group| group.has_rate()) {
                let lifted = spawn_blocking(move || {
                    group.lift_rate();
                    group
                });
                // Without a runtime the group is dropped, which lifts the rate too.
                beside.group = lifted.await.ok();
            }
        }
    }

    /// Removes the groups, whose processes are dead.
    pub(super) async fn remove_all(mut self) {
        for Beside { stage, group, .. } in std::mem::take(&mut self.runs) {
            let made = match stage {
                Stage::AwaitingGroup(task, _) => task.await.ok().and_then(Result::ok).map(|made| made.group),
                Stage::Sent(_) => None,
            };
            made.into_iter().chain(group).for_each(|group| self.remove(group));
        }
        while self.removals.join_next().await.is_some() {}
    }

    fn remove(&mut self, group: Box<RunGroup>) {
        while self.removals.try_join_next().is_some() {}
        self.removals.spawn_blocking(move || group.remove());
    }
}

/// Gives an error to the caller of a run that does not begin.
fn refuse(run: QueuedRun, why: Error) {
    run.outcome.send(Err(why)).ok();
}
