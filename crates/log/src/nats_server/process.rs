//! A child process that tests and drills kill and pause.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// How many lines of a log are shown when a program fails to start.
const LINES_SHOWN: usize = 5;

/// A child process, running or ended. Dropping it kills the process.
#[derive(Debug, Default)]
pub struct Process(Option<Child>);

impl Process {
    /// Starts a program, unless this process is running already. Returns whether it was started.
    ///
    /// # Errors
    /// When the program cannot be started: with its name.
    pub fn start(&mut self, command: &mut Command) -> io::Result<bool> {
        if self.0.is_some() {
            return Ok(false);
        }
        // In a group of its own, so that Ctrl-C in the terminal reaches only this program.
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        let name = command.get_program().to_string_lossy();
        self.0 = Some(child.map_err(|why| io::Error::new(why.kind(), format!("{name}: {why}")))?);
        Ok(true)
    }

    /// Returns the process id, if the process is running.
    pub fn id(&self) -> Option<u32> {
        self.0.as_ref().map(Child::id)
    }

    /// Returns whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.0.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))))
    }

    /// Kills the process (SIGKILL). Unlike a power cut this keeps what the kernel has buffered.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.0.take() {
            // The process may have ended by itself.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Asks the process to stop (SIGTERM), and waits until it has ended.
    pub fn stop(&mut self) {
        // The process may have ended by itself.
        drop(self.signal(Signal::TERM));
        if let Some(mut child) = self.0.take() {
            drop(child.wait());
        }
    }

    /// Pauses the process (SIGSTOP) until [`Process::resume`].
    ///
    /// # Errors
    /// When the process is not running.
    pub fn pause(&self) -> io::Result<()> {
        let id = self.signal(Signal::STOP)?;
        // The process keeps running until the kernel delivers the signal.
        waitpid(Some(id), WaitOptions::UNTRACED)?;
        Ok(())
    }

    /// Resumes the process (SIGCONT).
    ///
    /// # Errors
    /// When the process is not running.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::CONT).map(drop)
    }

    fn signal(&self, signal: Signal) -> io::Result<Pid> {
        let id = self.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let id = id.ok_or_else(|| io::Error::other("the process is not running"))?;
        kill_process(id, signal)?;
        Ok(id)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the last lines of a log, for an error message.
pub fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(LINES_SHOWN);
    lines.get(from..).unwrap_or_default().join("\n")
}
