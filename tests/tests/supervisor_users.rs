//! As whom everything runs, whose files are given to whom, and where a database cannot live.
//!
//! Only root can show what root gives up. Anybody else prints that nothing was tested, as with an engine that is missing.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_tests::process::{self, Finished, command};
use holdfast_tests::programs::ours;

const SOON: Duration = Duration::from_secs(30);

/// Programs that anybody may run, a directory that belongs to root, and one for everybody's notes.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    /// None, with the reason printed, for anybody but root.
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED, nothing was tested: only root can show what root gives up");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("ground-").tempdir().unwrap();
        let ground = Self { dir };
        ground.mode("", 0o755);
        fs::create_dir(ground.at("data")).unwrap();
        ground.mode("data", 0o755);
        for program in ["holdfast-supervisor", "holdfast", "fakeagent"] {
            fs::copy(ours(program), ground.at(program)).unwrap();
        }
        Some(ground)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn owner(&self, name: &str) -> (u32, u32) {
        let meta = self.at(name).symlink_metadata().unwrap();
        (meta.uid(), meta.gid())
    }

    /// Runs the supervisor behind the words of `wrapper`, with `flags`, around `sh -c SCRIPT` in the data directory.
    fn run(&self, wrapper: &[&str], flags: &[&str], script: &str) -> Finished {
        let supervisor = self.text("holdfast-supervisor");
        let agent = self.text("fakeagent");
        let own = ["-agent", &agent, "-listen", "off", "-stop-grace", "10s"];
        let words = [wrapper, &[&supervisor], &own, flags, &["--", "sh", "-c", script]].concat();
        let mut run = command(words[0]);
        run.args(&words[1..]).current_dir("/").env("DATA", self.at("data"));
        run.env("LITESTREAM_FILE_PATH", self.at("data/replica"))
            .env("DATABASE_PATH", self.at("data/station.db"));
        run.env("FIXTURE_LOG", self.at("data/events")).env("LITESTREAM_S3_SECRET_ACCESS_KEY", "s3cr3t");
        process::run(&mut run, SOON)
    }

    /// As [`Ground::run`], behind the words of `outer`, as the first process of a container whose image knows no users.
    fn run_as_pid_1(&self, outer: &[&str], flags: &[&str], script: &str) -> Finished {
        fs::write(self.at("nobody"), "").unwrap();
        let nobody = self.text("nobody");
        let hide = "mount --bind $0 /etc/passwd && mount --bind $0 /etc/group && exec \"$@\"";
        let pid_1 =
            ["unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child=KILL", "sh", "-c"];
        self.run(&[outer, &pid_1, &[hide, &nobody]].concat(), flags, script)
    }
}

/// The words behind `NAME:` of the `nth` status in `text`.
fn field(text: &str, name: &str, nth: usize) -> Vec<String> {
    let line = text.lines().filter_map(|l| l.strip_prefix(name)?.strip_prefix(':')).nth(nth);
    let line = line.unwrap_or_else(|| panic!("{name} in {text}"));
    line.split_whitespace().map(String::from).collect()
}

#[track_caller]
fn nobody_special(status: &str, nth: usize, id: &str, groups: &[&str]) {
    assert_eq!(field(status, "Uid", nth), [id; 4]);
    assert_eq!(field(status, "Gid", nth), [id; 4]);
    assert_eq!(field(status, "Groups", nth), groups);
    assert_eq!(field(status, "NoNewPrivs", nth), ["1"]);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(status, set, nth), ["0000000000000000"], "{set}");
    }
}

#[test]
fn t75_e18_root_gives_itself_up_and_only_what_is_ours_away() {
    let Some(ground) = Ground::new() else { return };
    for name in ["data/station.db", "data/other", "victim", "twice"] {
        fs::write(ground.at(name), "").unwrap();
    }
    symlink(ground.at("victim"), ground.at("data/station.db-wal")).unwrap();
    fs::hard_link(ground.at("twice"), ground.at("data/station.db-journal")).unwrap();
    let run =
        ground.run_as_pid_1(&[], &[], "cat /proc/self/status /proc/1/status; echo HOME:$HOME USER:$USER");
    assert_eq!(run.code, 0, "{}", run.stderr);
    nobody_special(&run.stdout, 0, "1000", &["1000"]);
    nobody_special(&run.stdout, 1, "1000", &["1000"]);
    assert!(run.stdout.contains(&format!("HOME:{} USER:\n", ground.text("data"))), "{}", run.stdout);
    for name in ["data", "data/station.db", "data/replica", "data/events"] {
        assert_eq!(ground.owner(name), (1000, 1000), "{name}: {}", run.stderr);
    }
    for name in ["victim", "twice", "data/other", "data/station.db-wal", "data/station.db-journal"] {
        assert_eq!(ground.owner(name), (0, 0), "{name}: {}", run.stderr);
    }
    assert!(run.stderr.contains("running as user 1000:1000"), "{}", run.stderr);
    assert!(run.stderr.contains("final sync proven"), "{}", run.stderr);
}

#[test]
fn t75_e20_the_engines_groups_stay_and_a_user_may_be_named() {
    let Some(ground) = Ground::new() else { return };
    let wrapper = ["setpriv", "--groups", "0,4242", "--inh-caps", "+chown"];
    let run = ground.run(&wrapper, &["-user", "54321:54321"], "cat /proc/self/status /proc/$PPID/status");
    assert_eq!(run.code, 0, "{}", run.stderr);
    nobody_special(&run.stdout, 0, "54321", &["4242", "54321"]);
    nobody_special(&run.stdout, 1, "54321", &["4242", "54321"]);
    let run = ground.run(&[], &["-user", "nobody-of-that-name"], "true");
    assert_eq!(run.code, 78, "{}", run.stderr);
    assert!(run.stderr.contains("no such name in /etc/passwd"), "{}", run.stderr);
}

#[test]
fn t76_e19_root_without_capabilities_is_refused_with_what_helps() {
    let Some(ground) = Ground::new() else { return };
    let wrapper = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"];
    let run = ground.run(&wrapper, &["-user", "1000:1000"], "true");
    assert_eq!(run.code, 77, "{}", run.stderr);
    assert!(run.stderr.contains("docker run --user 1000:1000"), "{}", run.stderr);
    assert!(run.stderr.contains("CHOWN, SETUID and SETGID"), "{}", run.stderr);
    assert_eq!(ground.owner("data"), (0, 0));
    let stays = ground.run(&wrapper, &["-user", "root"], "true");
    assert_eq!(stays.code, 0, "{}", stays.stderr);
}

#[test]
fn t77_a_user_without_a_name_runs_and_its_home_is_the_data_directory() {
    let Some(ground) = Ground::new() else { return };
    // As OpenShift has it: any number, and the group root.
    ground.mode("data", 0o770);
    let wrapper = ["setpriv", "--reuid", "12345", "--regid", "0", "--clear-groups", "env", "-u", "HOME"];
    let run = ground.run(&wrapper, &[], "echo HOME:$HOME; id -u; cat /proc/self/status");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.starts_with(&format!("HOME:{}\n12345\n", ground.text("data"))), "{}", run.stdout);
    assert_eq!(field(&run.stdout, "NoNewPrivs", 0), ["1"]);
    assert_eq!(ground.owner("data"), (0, 0), "nothing is given away");
    let run = ground.run(&wrapper, &["-no-new-privs=false"], "cat /proc/self/status");
    assert_eq!(field(&run.stdout, "NoNewPrivs", 0), ["0"], "{}", run.stderr);
    let run = ground.run(&wrapper, &["-user", "1000"], "true");
    assert_eq!(run.code, 77, "{}", run.stderr);
}

#[test]
fn t93_station_is_told_what_it_lacks_where_the_root_is_read_only() {
    let Some(ground) = Ground::new() else { return };
    let unwritable = "mount --bind /tmp /tmp && mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind /tmp && exec \"$@\"";
    let ground_dir = ground.text("");
    let hide = ["unshare", "--mount", "sh", "-c", unwritable, &ground_dir];
    // Known to the machine, so its home is where its configuration is, even if nothing can be written there.
    let home = ["env", "HOME=/tmp", "SUPERVISOR_APP=station"];
    let run = ground.run(&[&hide[..], &home].concat(), &["-user", "root"], "echo HOME:$HOME");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stdout, "HOME:/tmp\n", "its configuration may be there");
    assert!(run.stderr.contains("HOME (/tmp) cannot be written to"), "{}", run.stderr);
    assert!(run.stderr.contains("/tmp cannot be written to"), "{}", run.stderr);
}

#[test]
fn t85_nobody_of_the_same_user_reads_the_environment_of_supervisor_and_agent() {
    let Some(ground) = Ground::new() else { return };
    let agent = ground.text("holdfast");
    // `pgrep` by the name: the app, the agent and the supervisor are all there are in this namespace.
    let script = "ulimit -c; for p in 1 $(pgrep -x holdfast) $$; do \
                  if grep -q s3cr3t /proc/$p/environ; then echo seen; \
                  elif cat /proc/$p/environ >/dev/null; then echo clean; else echo denied; fi; done";
    let limited = ["sh", "-c", "ulimit -c 4242; exec \"$@\"", "sh"];
    let run = ground.run_as_pid_1(&limited, &["-agent", &agent], script);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stdout, "4242\ndenied\ndenied\nclean\n", "{}", run.stderr);
}

#[test]
fn t60_a_place_that_cannot_be_written_to_is_refused_and_says_why() {
    let Some(ground) = Ground::new() else { return };
    let other = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"];
    let run = ground.run(&other, &[], "true");
    assert_eq!(run.code, 77, "{}", run.stderr);
    let owner =
        format!("write to {} as user 12345: permission denied, which belongs to 0:0", ground.text("data"));
    assert!(run.stderr.contains(&owner), "{}", run.stderr);

    let data = ground.text("data");
    let mounted = |how: &str| {
        let script = format!("{how} && exec \"$@\"");
        ground.run(&["unshare", "--mount", "sh", "-c", &script, &data], &["-user", "root"], "true")
    };
    let run = mounted("mount --bind $0 $0 && mount -o remount,ro,bind $0");
    assert_eq!(run.code, 73, "{}", run.stderr);
    assert!(run.stderr.contains("it is mounted read-only"), "{}", run.stderr);
    let run = mounted("mount -t tmpfs -o size=64k tmpfs $0 && { head -c 1m /dev/zero >$0/ballast; true; }");
    assert_eq!(run.code, 73, "{}", run.stderr);
    assert!(run.stderr.contains("the volume is full"), "{}", run.stderr);

    fs::create_dir(ground.at("data/station.db")).unwrap();
    let run = ground.run(&[], &["-user", "root"], "true");
    assert_eq!(run.code, 78, "{}", run.stderr);
    assert!(run.stderr.contains("it is a directory"), "{}", run.stderr);
    assert_eq!(names(&ground.at("data")), ["station.db"], "nothing is left, and nothing was started");
}

#[test]
fn a_directory_that_a_link_leads_to_is_not_roots_to_give() {
    let Some(ground) = Ground::new() else { return };
    fs::create_dir(ground.at("real")).unwrap();
    ground.mode("real", 0o755);
    fs::remove_dir(ground.at("data")).unwrap();
    symlink(ground.at("real"), ground.at("data")).unwrap();
    let run = ground.run(&[], &["-user", "1000:1000"], "true");
    assert_eq!(run.code, 77, "{}", run.stderr);
    assert_eq!(ground.owner("real"), (0, 0));
    // Whoever made it so can give it, too.
    chown(ground.at("real"), Some(1000), Some(1000)).unwrap();
    let run = ground.run(&[], &["-user", "1000:1000"], "true");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("root follows none"), "{}", run.stderr);
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
