//! Processes that end with the test, however it ends.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A program and all that it starts, as one process group. Its leader is a shell that waits for its
/// input to end, which happens when this is dropped, and also when this process is killed. It lets
/// go of the program's output, so that the output ends with the program.
pub struct Group {
    shell: Child,
}

const KEEPER: &str = r#""$@" </dev/null & exec >/dev/null; cat; kill -KILL 0"#;

impl Group {
    pub fn start(program: impl AsRef<OsStr>, args: &[String]) -> Group {
        let shell = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(program)
            .args(args)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh, to hold a process");
        Group { shell }
    }

    /// What it prints; once.
    pub fn stdout(&mut self) -> ChildStdout {
        self.shell
            .stdout
            .take()
            .expect("its output was not taken yet")
    }

    /// Sends a signal to every process of the group, by its id.
    pub fn signal(&self, name: &str) {
        let group = format!("-{}", self.shell.id());
        let kill = Command::new("kill")
            .args(["-s", name, "--", &group])
            .status();
        assert!(kill.expect("kill").success(), "kill -s {name} {group}");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Not `signal`: a panic in a drop would hide the test's own.
        let group = format!("-{}", self.shell.id());
        let _ = Command::new("kill")
            .args(["-s", "KILL", "--", &group])
            .status();
        let _ = self.shell.wait();
    }
}
