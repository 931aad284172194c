//! A program that runs beside this one, for whoever tries what happens when it is killed or paused.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// How many lines of a log are shown when a program does not start.
const LINES_SHOWN: usize = 5;

/// A process, or the place of one that has ended. Dropping it kills the process.
#[derive(Debug, Default)]
pub struct Process(Option<Child>);

impl Process {
    /// Starts a program, unless this is running already. Returns whether it was not.
    ///
    /// # Errors
    /// When it cannot be started: with its name.
    pub fn start(&mut self, command: &mut Command) -> io::Result<bool> {
        if self.0.is_some() {
            return Ok(false);
        }
        // What is typed at a terminal is for the one who has started it.
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        let name = command.get_program().to_string_lossy();
        self.0 = Some(child.map_err(|why| io::Error::new(why.kind(), format!("{name}: {why}")))?);
        Ok(true)
    }

    /// Its process id, if it is running.
    pub fn id(&self) -> Option<u32> {
        self.0.as_ref().map(Child::id)
    }

    /// Whether it is not running, though nobody has killed it.
    pub fn has_ended(&mut self) -> bool {
        self.0.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))))
    }

    /// Kills it, as a power cut does that leaves what the kernel had taken (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended by itself.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    pub fn stop(&mut self) {
        // It may have ended by itself.
        drop(self.signal(Signal::TERM));
        if let Some(mut child) = self.0.take() {
            drop(child.wait());
        }
    }

    /// Stops it where it is (SIGSTOP), until [`Process::resume`].
    ///
    /// # Errors
    /// When it is not running.
    pub fn pause(&self) -> io::Result<()> {
        let id = self.signal(Signal::STOP)?;
        // It goes on until the kernel gets there.
        waitpid(Some(id), WaitOptions::UNTRACED)?;
        Ok(())
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// When it is not running.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::CONT).map(drop)
    }

    fn signal(&self, signal: Signal) -> io::Result<Pid> {
        let id = self.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let id = id.ok_or_else(|| io::Error::other("it is not running"))?;
        kill_process(id, signal)?;
        Ok(id)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a log, to be shown.
pub fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(LINES_SHOWN);
    lines.get(from..).unwrap_or_default().join("\n")
}
