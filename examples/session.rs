//! A session, as in a notebook: one interpreter stays alive and runs cell after cell.
//!
//! ```text
//! cargo run --example session
//! ```
//!
//! Each cell has a deadline. A cell that overruns it is interrupted, as by Ctrl-C, and the session
//! goes on with its variables. Only a cell that ignores the interrupt costs them: the interpreter
//! is killed and a new one starts. A program beside the interpreter lists the session's files.

use std::time::Duration;

use cellblock::process::{OutputPipe, Signal};
use cellblock::{Command, Container, Limits, Process, Stdio};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::time::timeout;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How long a cell may take to end once it is interrupted.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads a cell per line, as JSON, and answers each with a line of what the cell printed. Ignores
/// interrupts between two cells.
const INTERPRETER: &str = r#"
import contextlib, io, json, signal, sys, traceback
variables, interrupt = {}, lambda action: signal.signal(signal.SIGINT, action)
interrupt(signal.SIG_IGN)
for line in sys.stdin:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            try: interrupt(signal.default_int_handler); exec(json.loads(line), variables)
            finally: interrupt(signal.SIG_IGN)
        except BaseException: print(traceback.format_exc(limit=0), end="")
    print(json.dumps(printed.getvalue()), flush=True)
"#;

struct Session {
    interpreter: Process,
    answers: Lines<BufReader<OutputPipe>>,
}

impl Session {
    async fn start(container: &Container) -> Result<Self> {
        // The cells have deadlines, and the interpreter has none.
        let limits = Limits::new().no_wall_time().memory(256 << 20).allow_weaker(true);
        let mut command = Command::new("python3");
        command.args(["-c", INTERPRETER]).stdin(Stdio::piped()).stdout(Stdio::piped()).limits(limits);
        let mut interpreter = container.spawn(&command).await?;
        let stdout = interpreter.stdout.take().ok_or("stdout is piped")?;
        Ok(Self { interpreter, answers: BufReader::new(stdout).lines() })
    }

    /// Runs a cell and returns what it printed, or `None` if it ignored the interrupt.
    async fn run(&mut self, cell: &str, deadline: Duration) -> Result<Option<String>> {
        let stdin = self.interpreter.stdin.as_mut().ok_or("stdin is piped")?;
        stdin.write_all(format!("{}\n", serde_json::to_string(cell)?).as_bytes()).await?;
        if let Ok(answer) = timeout(deadline, self.answers.next_line()).await {
            return Ok(Some(serde_json::from_str(&answer?.ok_or("the interpreter ended")?)?));
        }
        self.interpreter.signal(Signal::INTERRUPT).await?;
        match timeout(PATIENCE, self.answers.next_line()).await {
            Ok(answer) => Ok(Some(serde_json::from_str(&answer?.ok_or("the interpreter ended")?)?)),
            Err(_) => Ok(None),
        }
    }
}

fn main() -> Result<()> {
    cellblock::init(); // must come first: in a container's init this never returns
    tokio::runtime::Runtime::new()?.block_on(async {
        let container = Container::builder().build().await?;
        let mut session = Session::start(&container).await?;
        for cell in [
            "x = 6; open('notes', 'w').write('kept')",
            "while True: pass",
            "print(x * 7)",
            "print(1 / 0)",
            "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
            "print('x' in globals(), open('notes').read())",
        ] {
            println!(">>> {}", cell.replace('\n', "\n... "));
            match session.run(cell, Duration::from_secs(2)).await? {
                Some(printed) => print!("{printed}"),
                None => {
                    println!("killed");
                    session.interpreter.kill().await?;
                    session = Session::start(&container).await?;
                }
            }
        }
        let files = session.interpreter.beside().output(Command::new("ls")).await?;
        print!("its files: {}", String::from_utf8_lossy(&files.stdout));
        container.destroy().await;
        Ok(())
    })
}
