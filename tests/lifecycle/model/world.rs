//! The model: the files that may exist, and what each command does to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use cellblock::container::FileType;
use cellblock::report::Status;

/// The only name that can be a directory with another name in it.
const DIR: &str = "d";
pub(crate) const NAMES: [&str; 4] = ["a", "b", DIR, "d/e"];
/// The names that are never directories.
pub(crate) const FILES: [&str; 2] = ["a", "b"];
pub(crate) const DIRECTORIES: [&str; 2] = [DIR, "d/e"];

pub(crate) type Name = &'static str;

#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Content(pub(crate) Vec<u8>);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let beginning = self.0[..self.0.len().min(20)].escape_ascii();
        if self.0.len() > 20 {
            write!(f, "{beginning}… ({} bytes)", self.0.len())
        } else {
            write!(f, "\"{beginning}\"")
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Ping,
    Write(Name, Content),
    Read(Name),
    /// Makes a link to the first name, at the second.
    Symlink(Name, Name),
    Delete(Name),
    MakeDirectory(Name),
    Rename(Name, Name),
    RemoveTree(Name),
    /// Asks for the type.
    Inspect(Name),
    Reset,
    Run(Program),
    /// Runs a program beside one that never ends, and kills that one.
    RunBeside(Program),
    /// Starts a program that never ends, and kills it.
    Kill,
    /// Starts a program that never ends, and drops it.
    Forget,
    /// Polls the command this often and then drops it, unless it has completed.
    Dropped(u8, Box<Op>),
}

#[derive(Clone, Debug)]
pub(crate) enum Program {
    Exit(u8),
    Cat(Name),
    Append(Name, String),
    Remove(Name),
}

impl Op {
    /// Whether the command has intermediate states, and may go on after its future is dropped.
    pub(crate) fn is_gradual(&self) -> bool {
        match self {
            Self::Run(Program::Append(..)) | Self::RunBeside(Program::Append(..)) => true,
            // A thread writes, and goes on.
            Self::Write(_, content) => !content.0.is_empty(),
            Self::RemoveTree(_) => true,
            _ => false,
        }
    }
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Content(Content),
    Type(FileType),
    Errno(i32),
    Ended(Status, Content),
}

impl Outcome {
    fn of(result: Result<(), i32>) -> Self {
        result.map_or_else(Self::Errno, |()| Self::Done)
    }
}

fn exited(code: i32) -> Outcome {
    Outcome::Ended(Status::Exited(code), Content::default())
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    File(Content),
    Link(Name),
    Dir,
}

/// One possible state of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    entries: BTreeMap<Name, Entry>,
    /// A name that a dropped program may still remove, until another program has run.
    removing: Option<Name>,
}

impl World {
    /// The entry at a name, for an operation that opens the parent directory. A link is not a
    /// directory.
    fn look_in_dir(&self, name: Name) -> Result<Option<&Entry>, i32> {
        self.look(name).map_err(|errno| if errno == libc::ELOOP { libc::ENOTDIR } else { errno })
    }

    /// The entry at a name, for the library, which follows no links.
    fn look(&self, name: Name) -> Result<Option<&Entry>, i32> {
        if name.starts_with("d/") {
            match self.entries.get(DIR) {
                Some(Entry::Dir) => {}
                Some(Entry::File(_)) => return Err(libc::ENOTDIR),
                Some(Entry::Link(_)) => return Err(libc::ELOOP),
                None => return Err(libc::ENOENT),
            }
        }
        Ok(self.entries.get(name))
    }

    /// The name that a program reaches through links, or `None` if the path does not resolve.
    fn follow(&self, mut name: Name) -> Option<Name> {
        for _ in 0..NAMES.len() {
            match self.look(name) {
                Ok(Some(Entry::Link(target))) => name = target,
                Ok(_) => return Some(name),
                Err(_) => return None,
            }
        }
        None
    }

    fn remove(&mut self, name: Name) -> Outcome {
        match self.look_in_dir(name) {
            Err(errno) => return Outcome::Errno(errno),
            Ok(None) => return Outcome::Errno(libc::ENOENT),
            Ok(Some(Entry::Dir)) if name == DIR && self.entries.contains_key("d/e") => {
                return Outcome::Errno(libc::ENOTEMPTY);
            }
            Ok(Some(_)) => self.entries.remove(name),
        };
        Outcome::Done
    }

    fn run(&mut self, program: &Program) -> Outcome {
        match program {
            Program::Exit(code) => return exited(i32::from(*code)),
            Program::Cat(name) => {
                if let Some(Entry::File(content)) = self.follow(name).and_then(|name| self.entries.get(name)) {
                    return Outcome::Ended(Status::Exited(0), content.clone());
                }
            }
            Program::Append(name, text) => {
                if let Some(name) = self.follow(name) {
                    let entry = self.entries.entry(name).or_insert_with(|| Entry::File(Content::default()));
                    if let Entry::File(content) = entry {
                        content.0.extend_from_slice(text.as_bytes());
                        return exited(0);
                    }
                }
            }
            Program::Remove(name) => {
                if !matches!(self.look(name), Ok(Some(Entry::Dir))) && self.remove(name) == Outcome::Done {
                    return exited(0);
                }
            }
        }
        exited(9)
    }

    /// Makes the parent directory and an empty file, as a write does first. Fails with an errno.
    fn open_to_write(&mut self, name: Name) -> Result<(), i32> {
        if name.starts_with("d/") {
            self.entries.entry(DIR).or_insert(Entry::Dir);
        }
        // The library makes the directory before it looks at the file.
        match self.look_in_dir(name) {
            Err(errno) => Err(errno),
            Ok(Some(Entry::Dir)) => Err(libc::EISDIR),
            Ok(Some(Entry::Link(_))) => Err(libc::ELOOP),
            Ok(_) => {
                self.entries.insert(name, Entry::File(Content::default()));
                Ok(())
            }
        }
    }

    /// Makes a directory and the one above it. Fails with an errno.
    fn make_directory(&mut self, name: Name) -> Result<(), i32> {
        if name.starts_with("d/") {
            self.make_directory(DIR)?;
        }
        match self.entries.entry(name).or_insert(Entry::Dir) {
            Entry::Dir => Ok(()),
            Entry::File(_) | Entry::Link(_) => Err(libc::ENOTDIR),
        }
    }

    /// Renames what is never a directory. Fails with an errno.
    fn rename(&mut self, from: Name, to: Name) -> Result<(), i32> {
        let target = self.look_in_dir(to)?.cloned();
        let entry = self.entries.get(from).cloned().ok_or(libc::ENOENT)?;
        if target == Some(Entry::Dir) {
            return Err(libc::EISDIR);
        }
        self.entries.remove(from);
        self.entries.insert(to, entry);
        Ok(())
    }

    fn remove_tree(&mut self, name: Name) -> Result<(), i32> {
        match self.look(name)? {
            None => Err(libc::ENOENT),
            Some(Entry::File(_) | Entry::Link(_)) => Err(libc::ENOTDIR),
            Some(Entry::Dir) => {
                self.entries.retain(|entry, _| !Path::new(entry).starts_with(name));
                Ok(())
            }
        }
    }

    /// Runs a command to its end.
    fn step(mut self, op: &Op) -> (Outcome, Self) {
        let outcome = match op {
            Op::Ping | Op::Forget => Outcome::Done,
            Op::Kill => Outcome::Ended(Status::Signaled { signal: 9, core_dumped: false }, Content::default()),
            Op::Write(name, content) => match self.open_to_write(name) {
                Ok(()) => {
                    self.entries.insert(name, Entry::File(content.clone()));
                    Outcome::Done
                }
                Err(errno) => Outcome::Errno(errno),
            },
            Op::Read(name) => match self.look(name) {
                Err(errno) => Outcome::Errno(errno),
                Ok(None) => Outcome::Errno(libc::ENOENT),
                Ok(Some(Entry::File(content))) => Outcome::Content(content.clone()),
                Ok(Some(Entry::Link(_))) => Outcome::Errno(libc::ELOOP),
                Ok(Some(Entry::Dir)) => Outcome::Errno(libc::EISDIR),
            },
            Op::Symlink(target, name) => match self.look_in_dir(name) {
                Err(errno) => Outcome::Errno(errno),
                Ok(Some(_)) => Outcome::Errno(libc::EEXIST),
                Ok(None) => {
                    self.entries.insert(name, Entry::Link(target));
                    Outcome::Done
                }
            },
            Op::Delete(name) => self.remove(name),
            Op::MakeDirectory(name) => Outcome::of(self.make_directory(name)),
            Op::Rename(from, to) => Outcome::of(self.rename(from, to)),
            Op::RemoveTree(name) => Outcome::of(self.remove_tree(name)),
            Op::Inspect(name) => match self.look(name) {
                Err(errno) => Outcome::Errno(errno),
                Ok(None) => Outcome::Errno(libc::ENOENT),
                Ok(Some(Entry::File(_))) => Outcome::Type(FileType::File),
                Ok(Some(Entry::Link(_))) => Outcome::Type(FileType::Symlink),
                Ok(Some(Entry::Dir)) => Outcome::Type(FileType::Directory),
            },
            Op::Reset => {
                self.entries.clear();
                Outcome::Done
            }
            Op::Run(program) | Op::RunBeside(program) => self.run(program),
            Op::Dropped(_, op) => return self.step(op),
        };
        (outcome, self)
    }

    /// The worlds that are possible after a command was dropped.
    fn dropped(self, op: &Op) -> Vec<Self> {
        let mut emptied = self.clone();
        match op {
            Op::Write(name, _) => drop(emptied.open_to_write(name)),
            Op::Run(Program::Remove(name)) | Op::RunBeside(Program::Remove(name)) => emptied.removing = Some(name),
            Op::Symlink(..) | Op::Delete(_) | Op::MakeDirectory(_) | Op::Rename(..) | Op::Reset => {
                emptied = emptied.step(op).1
            }
            _ => {}
        }
        vec![self, emptied]
    }

    /// The worlds that are possible after some time, in which a dropped program may go on.
    fn and_later(self) -> Vec<Self> {
        let mut removed = self.clone();
        match removed.removing.take() {
            Some(name) => drop(removed.run(&Program::Remove(name))),
            None => return vec![self],
        }
        vec![self, removed]
    }
}

/// All worlds that agree with what one task has seen.
#[derive(Debug)]
pub(crate) struct Worlds(BTreeSet<World>);

impl Worlds {
    pub(crate) fn new() -> Self {
        Self(BTreeSet::from([World::default()]))
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn see(&mut self, op: &Op, outcome: Option<&Outcome>) {
        let before = std::mem::take(&mut self.0).into_iter().flat_map(World::and_later);
        let is_turn = |op: &Op| matches!(op, Op::Reset | Op::Run(_) | Op::RunBeside(_) | Op::Kill | Op::Forget);
        let after: BTreeSet<World> = match (outcome, op) {
            (Some(outcome), op) => {
                let op = if let Op::Dropped(_, op) = op { op } else { op };
                // A program or a reset starts only after every earlier program has ended.
                let over = |world: World| if is_turn(op) { World { removing: None, ..world } } else { world };
                let stepped = before.map(|world| over(world).step(op));
                stepped.filter(|(expected, _)| expected == outcome).map(|(_, world)| world).collect()
            }
            (None, Op::Dropped(_, op)) => before.flat_map(|world| world.dropped(op)).collect(),
            (None, _) => unreachable!("it was not dropped"),
        };
        self.0 = after;
    }
}
