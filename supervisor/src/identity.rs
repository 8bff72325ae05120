//! As whom to run when root started us. Text of `/etc/passwd` and `/etc/group` in, numbers out; switches nothing.
//!
//! | started as | `-user` | runs as |
//! | --- | --- | --- |
//! | anybody but root | none, or that user | that user |
//! | anybody but root | another | refused: only root can switch |
//! | root, PID 1 | none | `station` if there is such a user, else 1000:1000 |
//! | root, not PID 1 | none | root, with a warning: on a machine, 1000 is somebody |
//! | root | `root` or `0` | root |
//! | root | `NAME`, `UID`, either with `:GROUP` or `:GID` | that user |
//!
//! An own parser, because a static program has no name service: numbers need no file at all (SUP-402).

use std::path::PathBuf;

use holdfast_config::exit::Exit;

/// Who started us, and what the machine knows of users.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    pub(crate) is_pid_1: bool,
    /// `/etc/passwd` and `/etc/group`; empty where there are none.
    pub(crate) passwd: String,
    pub(crate) group: String,
    /// `/proc/self/uid_map`.
    pub(crate) uid_map: String,
}

/// Whom to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// All supplementary groups, sorted.
    pub(crate) groups: Vec<u32>,
    pub(crate) name: Option<String>,
    pub(crate) home: Option<PathBuf>,
}

/// Nobody to become, with or without a reason to say so; or somebody.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum As {
    Before(Option<&'static str>),
    Now(User),
}

/// `wanted` is `-user`.
pub(crate) fn resolve(wanted: Option<&str>, origin: &Origin) -> Result<As, (Exit, String)> {
    let root = origin.uid == 0;
    match wanted {
        Some("root" | "0") if root => Ok(As::Before(None)),
        Some(text) => {
            let user =
                origin.user(text).map_err(|why| (Exit::Config, format!("find the user {text}: {why}")))?;
            match user.uid == origin.uid && (user.gid == origin.gid || !text.contains(':')) {
                true => Ok(As::Before(None)),
                false if root && user.uid == 0 => {
                    Err((Exit::Config, format!("become {text}: that is root; write `root` to stay root")))
                }
                false if root => Ok(As::Now(user)),
                false => Err((
                    Exit::Denied,
                    format!(
                        "switch to the user {text}: only root can, and this is {}; start as root, or as that user \
                         without -user",
                        origin.uid
                    ),
                )),
            }
        }
        None if !root => Ok(As::Before(None)),
        None if !origin.is_pid_1 => {
            Ok(As::Before(Some("running as root; name a user with -user, or say -user root")))
        }
        None => {
            let user = origin.user("station").or_else(|_| origin.user("1000:1000"));
            Ok(match user {
                Ok(user) if origin.is_mapped(user.uid) => As::Now(user),
                // A namespace of one user: its root is whoever made it, and there is nobody else to be.
                _ => As::Before(None),
            })
        }
    }
}

impl Origin {
    /// Whether the machine knows a user of this number.
    pub(crate) fn knows(&self, uid: u32) -> bool {
        self.accounts().any(|e| e.uid == uid)
    }

    fn user(&self, text: &str) -> Result<User, String> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let entry = self.accounts().find(|e| e.name == user || Some(e.uid) == number(user));
        let uid = number(user).or(entry.as_ref().map(|e| e.uid));
        let uid = uid.ok_or("no such name in /etc/passwd; use a number")?;
        let gid = match group {
            Some(group) => number(group)
                .or_else(|| self.groups_of_file().find(|(name, ..)| *name == group).map(|(_, gid, _)| gid))
                .ok_or_else(|| format!("no group {group} in /etc/group; use a number"))?,
            None => entry.as_ref().map_or(uid, |e| e.gid),
        };
        let mut groups = self.kept();
        groups.push(gid);
        if let Some(entry) = &entry {
            groups.extend(self.memberships(entry.name));
        }
        groups.sort_unstable();
        groups.dedup();
        let home = entry.as_ref().map(|e| e.home).filter(|home| !home.is_empty()).map(Into::into);
        Ok(User { uid, gid, groups, name: entry.map(|e| e.name.to_owned()), home })
    }

    /// The groups that the engine or the platform added, say for a socket or a volume (`--group-add`, `fsGroup`): those we
    /// have less those that root has by the files.
    fn kept(&self) -> Vec<u32> {
        let roots = self.accounts().find(|e| e.uid == 0);
        let mut by_file: Vec<u32> = roots.iter().flat_map(|e| self.memberships(e.name)).collect();
        by_file.extend(roots.map(|e| e.gid));
        by_file.extend([0, self.gid]);
        self.groups.iter().copied().filter(|gid| !by_file.contains(gid)).collect()
    }

    fn memberships<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u32> + 'a {
        let is_member = move |members: &str| members.split(',').any(|member| member == name);
        self.groups_of_file().filter(move |(.., members)| is_member(members)).map(|(_, gid, _)| gid)
    }

    /// `NAME:PASSWORD:UID:GID:COMMENT:HOME:SHELL`, passwd(5). Lines that are not are passed over.
    fn accounts(&self) -> impl Iterator<Item = Account<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            Some(Account { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
        })
    }

    /// `NAME:PASSWORD:GID:MEMBER,MEMBER`, group(5).
    fn groups_of_file(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            Some((name, fields.nth(1)?.parse().ok()?, fields.next().unwrap_or_default()))
        })
    }

    /// Whether `uid` exists in our user namespace: `INSIDE OUTSIDE COUNT` a line, user_namespaces(7).
    fn is_mapped(&self, uid: u32) -> bool {
        self.uid_map.lines().any(|line| {
            let numbers: Vec<u64> = line.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
            matches!(numbers[..], [inside, _, count] if (inside..inside + count).contains(&u64::from(uid)))
        })
    }
}

/// One line of `/etc/passwd`.
#[derive(Debug)]
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// The highest number means "nobody changes" to the kernel.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\n# none\nbroken\nalice:x:1001:1001:A:/home/alice:/bin/sh\n";
    const GROUP: &str =
        "root:x:0:\ndisk:x:6:root,adm\nwheel:x:10:root\ndocker:x:999:alice,bob\nusers:x:100:\n";

    fn origin(uid: u32, is_pid_1: bool) -> Origin {
        Origin {
            uid,
            gid: uid,
            is_pid_1,
            passwd: PASSWD.into(),
            group: GROUP.into(),
            uid_map: "         0          0 4294967295\n".into(),
            ..Origin::default()
        }
    }

    fn becomes(wanted: Option<&str>, origin: &Origin) -> (u32, u32) {
        match resolve(wanted, origin) {
            Ok(As::Now(user)) => (user.uid, user.gid),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn root_is_given_up_in_a_container_and_not_on_a_machine() {
        let pid_1 = origin(0, true);
        assert_eq!(becomes(None, &pid_1), (1000, 1000));
        let station =
            Origin { passwd: format!("{PASSWD}station:x:500:501::/srv:/bin/sh"), ..origin(0, true) };
        assert_eq!(becomes(None, &station), (500, 501));
        let said = resolve(None, &origin(0, false));
        assert!(matches!(said, Ok(As::Before(Some(why))) if why.contains("-user root")), "{said:?}");
        for root in ["root", "0"] {
            assert_eq!(resolve(Some(root), &pid_1), Ok(As::Before(None)));
        }
        let alone = Origin { uid_map: "0 1000 1\n".into(), ..origin(0, true) };
        assert_eq!(resolve(None, &alone), Ok(As::Before(None)), "there is no 1000 in this namespace");
    }

    #[test]
    fn t77_any_other_user_stays_whoever_it_is_and_cannot_become_another() {
        for (uid, wanted) in
            [(12345, None), (12345, Some("12345")), (1001, Some("alice")), (1001, Some("1001:1001"))]
        {
            assert_eq!(resolve(wanted, &origin(uid, true)), Ok(As::Before(None)), "{uid} {wanted:?}");
        }
        let (exit, why) = resolve(Some("alice"), &origin(12345, true)).unwrap_err();
        assert_eq!(exit, Exit::Denied);
        assert!(why.contains("only root can, and this is 12345"), "{why}");
    }

    #[test]
    fn names_and_numbers_are_read_with_and_without_a_group() {
        let root = origin(0, false);
        for (text, expected) in [
            ("alice", (1001, 1001)),
            ("1001", (1001, 1001)),
            ("alice:users", (1001, 100)),
            ("7:8", (7, 8)),
            ("7:docker", (7, 999)),
            ("7", (7, 7)),
        ] {
            assert_eq!(becomes(Some(text), &root), expected, "{text}");
        }
        for (text, why) in [("carol", "no such name"), ("7:carols", "no group carols"), ("", "no such name")]
        {
            let (exit, said) = resolve(Some(text), &root).unwrap_err();
            assert!(exit == Exit::Config && said.contains(why), "{said}");
        }
        assert!(resolve(Some("4294967295"), &root).is_err(), "-1 changes nothing");
        assert!(resolve(Some("root:users"), &root).is_err(), "no way to give up root");
    }

    #[test]
    fn e20_groups_of_the_engine_stay_and_roots_own_go() {
        let with = Origin { groups: vec![0, 6, 10, 4242, 999], ..origin(0, true) };
        let Ok(As::Now(user)) = resolve(Some("7:8"), &with) else { panic!() };
        assert_eq!(user.groups, [8, 999, 4242]);
        assert_eq!((user.name, user.home), (None, None));
        let Ok(As::Now(alice)) = resolve(Some("alice"), &origin(0, true)) else { panic!() };
        assert_eq!(alice.groups, [999, 1001]);
        assert_eq!((alice.name.as_deref(), alice.home), (Some("alice"), Some("/home/alice".into())));
    }
}
