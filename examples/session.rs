//! A session, as in a notebook: one interpreter stays alive and runs cell after cell.
//!
//! ```text
//! cargo run --example session
//! ```
//!
//! Each cell has a deadline. A cell that overruns it costs the session its variables: the
//! interpreter is killed and a new one starts. The files stay until the container is reset.

use std::time::Duration;

use cellblock::process::OutputPipe;
use cellblock::{Command, Container, Limits, Process, Stdio};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::time::timeout;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Reads a cell per line, as JSON, and answers each with a line of what the cell printed.
const INTERPRETER: &str = r#"
import contextlib, io, json, sys, traceback
variables = {}
for line in sys.stdin:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try: exec(json.loads(line), variables)
        except Exception: print(traceback.format_exc(limit=0), end="")
    print(json.dumps(printed.getvalue()), flush=True)
"#;

struct Session {
    container: Container,
    interpreter: Process,
    answers: Lines<BufReader<OutputPipe>>,
}

impl Session {
    async fn start(container: Container) -> Result<Self> {
        // The session may last as long as it likes: cells have deadlines, the interpreter has none.
        let limits = Limits::new().wall_time(Duration::MAX).memory(256 << 20).allow_weaker(true);
        let mut command = Command::new("python3");
        command.args(["-c", INTERPRETER]).stdin(Stdio::piped()).stdout(Stdio::piped()).limits(limits);
        let mut interpreter = container.spawn(&command).await?;
        let stdout = interpreter.stdout.take().ok_or("stdout is piped")?;
        Ok(Self { container, interpreter, answers: BufReader::new(stdout).lines() })
    }

    /// Runs a cell and returns what it printed, or `None` if it overran the deadline.
    async fn run(&mut self, cell: &str, deadline: Duration) -> Result<Option<String>> {
        let stdin = self.interpreter.stdin.as_mut().ok_or("stdin is piped")?;
        stdin.write_all(format!("{}\n", serde_json::to_string(cell)?).as_bytes()).await?;
        match timeout(deadline, self.answers.next_line()).await {
            Ok(Ok(Some(answer))) => Ok(Some(serde_json::from_str(&answer)?)),
            Ok(Ok(None)) => Err(format!("the interpreter ended: {}", self.interpreter.wait().await?).into()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                self.restart().await?;
                Ok(None)
            }
        }
    }

    /// Kills the interpreter with everything that it started, and starts a new one in the same
    /// container.
    async fn restart(&mut self) -> Result<()> {
        self.interpreter.kill().await?;
        *self = Self::start(self.container.clone()).await?;
        Ok(())
    }

    /// The same, and removes all files too: the session is like new.
    async fn reset(&mut self) -> Result<()> {
        self.interpreter.kill().await?;
        self.container.reset().await?;
        *self = Self::start(self.container.clone()).await?;
        Ok(())
    }
}

fn main() -> Result<()> {
    cellblock::init(); // must come first: in a container's init this never returns
    tokio::runtime::Runtime::new()?.block_on(async {
        let mut session = Session::start(Container::builder().build().await?).await?;
        for cell in [
            "x = 6",
            "print(x * 7)",
            "open('notes', 'w').write('kept')",
            "while True: pass",
            "print('x' in globals(), open('notes').read())",
            "print(1 / 0)",
        ] {
            let printed = session.run(cell, Duration::from_secs(2)).await?;
            print!(">>> {cell}\n{}", printed.as_deref().unwrap_or("the cell overran its deadline\n"));
        }
        session.reset().await?;
        let files = session.run("import os; print(os.listdir())", Duration::from_secs(2)).await?;
        print!("after a reset: {}", files.unwrap_or_default());
        session.container.destroy().await;
        Ok(())
    })
}
