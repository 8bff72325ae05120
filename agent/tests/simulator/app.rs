//! The app and everybody else who is not the agent: writers, readers, checkpoints, crashes, replacements.

use std::collections::BTreeMap;

use super::profile::{MS, SECOND};
use super::sqlite::{Conn, Mode, Sqlite};
use super::world::{Job, World};

/// The app's processes, while they live.
#[derive(Debug, Default)]
pub(crate) struct App {
    pub(crate) open: bool,
    /// Counts starts: what was scheduled in an earlier life is void.
    pub(crate) life: u32,
    actors: Vec<Actor>,
}

#[derive(Debug)]
struct Actor {
    conn: Conn,
    role: Role,
}

#[derive(Debug)]
enum Role {
    Writer(Writing),
    Reader { holding: bool },
    Checkpointer { running: bool },
}

#[derive(Debug)]
enum Writing {
    Idle,
    /// Pages written so far, and spills to come.
    Open {
        pages: BTreeMap<u32, u32>,
        spills: u64,
    },
    Checkpointing,
}

impl World {
    pub(crate) fn app_starts(&mut self) {
        if self.app.open {
            return;
        }
        let life = self.app.life + 1;
        let mut roles: Vec<Role> = (0..self.profile.writers).map(|_| Role::Writer(Writing::Idle)).collect();
        if self.profile.reading > 0 {
            roles.extend([Role::Reader { holding: false }, Role::Reader { holding: false }]);
        }
        if self.profile.foreign > 0 {
            roles.push(Role::Checkpointer { running: false });
        }
        let db = self.db();
        let actors: Vec<Actor> = roles.into_iter().map(|role| Actor { conn: db.open(), role }).collect();
        for actor in 0..actors.len() {
            let at = self.chance.range(1, 50 * MS);
            self.after(at, Job::App { life, actor });
        }
        self.app = App { open: true, life, actors };
        self.note(format_args!("app starts"));
    }

    /// Every connection closes; the last one deletes the WAL unless the agent is attached.
    pub(crate) fn app_closes(&mut self) {
        let mut deleted = false;
        for actor in std::mem::take(&mut self.app.actors) {
            let (db, chance) = (self.dbs.last_mut().expect("a database"), &mut self.chance);
            deleted |= db.close(actor.conn, false, chance);
        }
        self.app.open = false;
        self.cover(if deleted { "app closed and deleted the WAL" } else { "app closed beside the agent" });
        self.note(format_args!("app closes, WAL deleted: {deleted}"));
    }

    pub(crate) fn app_crashes(&mut self) {
        for actor in std::mem::take(&mut self.app.actors) {
            self.db().kill(actor.conn);
        }
        self.app.open = false;
        self.cover("app crashed");
        self.note(format_args!("app crashes"));
    }

    /// App and agent are gone; the WAL ends with the last frame the disk kept.
    pub(crate) fn power_fails(&mut self) {
        self.app.actors.clear();
        self.app.open = false;
        self.agent_dies();
        let salt = self.db().index.salt;
        let commits = self.history.commits(salt);
        let keep = if commits.is_empty() { 0 } else { self.chance.one_of(&commits) };
        let kept = self.db().lose_power(keep);
        let before = self.history.seq();
        let seq = self.history.undo(salt, kept);
        self.cover(if seq < before { "power failed and undid commits" } else { "power failed" });
        self.note(format_args!("power fails: state {before} -> {seq}, {kept} frames"));
        for acks in &mut self.acks {
            if acks.last().is_some_and(|(_, acked)| *acked > seq) {
                acks.push((self.now, seq));
            }
        }
    }

    /// Another file takes the database's place.
    pub(crate) fn database_is_replaced(&mut self) {
        if self.app.open {
            self.app_crashes();
        }
        let image: Vec<u32> = (0..self.chance.range(4, 12)).map(|_| self.history.version()).collect();
        self.dbs.push(Sqlite::new(image.clone()));
        self.history.begin(image);
        self.cover("database replaced");
        self.note(format_args!("database replaced"));
    }

    pub(crate) fn app_acts(&mut self, number: usize) {
        let Some(mut actor) = self.app.actors.get_mut(number).map(|a| Actor {
            conn: a.conn,
            role: std::mem::replace(&mut a.role, Role::Reader { holding: false }),
        }) else {
            return;
        };
        let next = match &mut actor.role {
            Role::Writer(writing) => self.writer_acts(actor.conn, writing),
            Role::Reader { holding } => self.reader_acts(actor.conn, holding),
            Role::Checkpointer { running } => self.checkpointer_acts(actor.conn, running),
        };
        self.app.actors[number] = actor;
        if let Some(next) = next {
            self.after(next, Job::App { life: self.app.life, actor: number });
        }
    }

    fn writer_acts(&mut self, conn: Conn, writing: &mut Writing) -> Option<u64> {
        let (db, chance) = (self.dbs.last_mut().expect("a database"), &mut self.chance);
        match writing {
            Writing::Idle if self.quiet => None,
            Writing::Idle => {
                if !db.begin_write(conn) {
                    db.end(conn);
                    self.busy += u64::from(self.agent_locks);
                    return Some(self.chance.range(200, 10 * MS));
                }
                let spills = if chance.permille(120) { chance.range(1, 3) } else { 0 };
                *writing = Writing::Open { pages: BTreeMap::new(), spills };
                Some(chance.range(20, 2 * MS))
            }
            Writing::Open { pages, spills: spills @ 1.. } => {
                *spills -= 1;
                let size = self.history.now().len() as u64;
                let mut spilled = BTreeMap::new();
                for _ in 0..chance.range(1, 4) {
                    spilled.insert(chance.range(1, size) as u32, self.history.version());
                }
                let list: Vec<(u32, u32)> = spilled.iter().map(|(p, v)| (*p, *v)).collect();
                pages.append(&mut spilled);
                db.write(conn, &list, None, chance);
                self.cover("transaction spilled");
                Some(self.chance.range(20, 5 * MS))
            }
            Writing::Open { pages, spills: 0 } => {
                let pages = std::mem::take(pages);
                let rolled_back = chance.permille(80);
                if rolled_back {
                    db.end(conn);
                    *writing = Writing::Idle;
                    self.cover("transaction rolled back");
                    return Some(self.pause());
                }
                self.commit(conn, pages);
                let limit = self.profile.autocheckpoint;
                let due = limit > 0 && self.db().index.frames >= limit;
                *writing = Writing::Idle;
                if due && self.db().begin_checkpoint(conn, Mode::Passive) {
                    *writing = Writing::Checkpointing;
                    self.cover("app autocheckpoint");
                    return Some(self.chance.range(5, 300));
                }
                Some(self.pause())
            }
            Writing::Checkpointing => match db.step_checkpoint(conn, chance) {
                None => Some(self.chance.range(5, 300)),
                Some(_) => {
                    *writing = Writing::Idle;
                    Some(self.pause())
                }
            },
        }
    }

    fn pause(&mut self) -> u64 {
        self.chance.around(self.profile.pause)
    }

    fn commit(&mut self, conn: Conn, mut all: BTreeMap<u32, u32>) {
        let mut size = self.history.now().len() as u64;
        let mut list = BTreeMap::new();
        let before = size;
        if self.chance.permille(100) && size < 40 {
            size += self.chance.range(1, 4);
        } else if self.chance.permille(40) && size > 6 {
            size = self.chance.range(4, size - 1);
            self.cover("database shrank");
        }
        // A page that never was may stay unwritten: it is on the freelist, which counts it all the same.
        let unwritten = self.chance.permille(300).then(|| self.history.largest() + 1);
        for page in (before + 1..=size).filter(|page| Some(*page) != unwritten) {
            list.insert(page as u32, self.history.version());
        }
        for _ in 0..self.chance.range(1, 4) {
            list.insert(self.chance.range(1, size) as u32, self.history.version());
        }
        let mut list: Vec<(u32, u32)> = list.into_iter().collect();
        let huge = self.chance.permille(self.profile.huge);
        let (db, chance) = (self.dbs.last_mut().expect("a database"), &mut self.chance);
        if huge {
            // Page after page; each goes into the WAL anew, as pages of a table that grows would.
            let first = before.max(size) + 1;
            size = first + chance.range(30, 150);
            list.extend((first..=size).map(|page| (page as u32, self.history.version())));
        }
        let last = chance.range(0, list.len() as u64 - 1) as usize;
        let end = list.len() - 1;
        list.swap(last, end);
        let old = db.index.salt;
        db.write(conn, &list, Some(size as u32), chance);
        db.end(conn);
        let index = db.index;
        all.extend(list);
        let mut image = self.history.now().clone();
        image.resize(size as usize, 0);
        for (page, version) in all.into_iter().filter(|(page, _)| u64::from(*page) <= size) {
            image[page as usize - 1] = version;
        }
        self.history.commit(index.salt, index.frames, image);
        if old != index.salt {
            self.cover("WAL restarted by a writer");
        }
        if huge {
            self.cover("transaction larger than a segment");
        }
        let seq = self.history.seq();
        self.note(format_args!("commit {seq}: {} frames, salt {}", index.frames, index.salt));
        self.committed();
        self.agent_notices_commit();
    }

    fn reader_acts(&mut self, conn: Conn, holding: &mut bool) -> Option<u64> {
        let long = self.chance.permille(self.profile.long_readers);
        let pause = self.chance.around(self.profile.reading);
        if *holding {
            self.db().end(conn);
            *holding = false;
            return (!self.quiet).then_some(pause);
        }
        *holding = !self.quiet && self.db().begin(conn);
        Some(if long {
            self.cover("reader stayed");
            self.chance.range(SECOND, 8 * SECOND)
        } else {
            self.chance.range(50, 20 * MS)
        })
    }

    fn checkpointer_acts(&mut self, conn: Conn, running: &mut bool) -> Option<u64> {
        let (db, chance) = (self.dbs.last_mut().expect("a database"), &mut self.chance);
        if *running {
            let old = db.index.salt;
            let done = db.step_checkpoint(conn, chance);
            if db.index.salt != old {
                self.cover("WAL truncated by a foreign checkpoint");
                self.note(format_args!("foreign TRUNCATE"));
            }
            *running = done.is_none();
        } else {
            if self.quiet {
                return None;
            }
            let mode = chance.one_of(&[Mode::Passive, Mode::Full, Mode::Restart, Mode::Truncate]);
            *running = db.begin_checkpoint(conn, mode);
            if *running {
                self.cover("foreign checkpoint");
            }
        }
        Some(if *running { self.chance.range(5, 400) } else { self.chance.around(self.profile.foreign) })
    }

    /// Something goes wrong.
    pub(crate) fn chaos(&mut self) {
        if self.quiet || self.profile.chaos == 0 {
            return;
        }
        let back = self.chance.range(10 * MS, 3 * SECOND);
        let agent_back = self.chance.range(400 * MS, 6 * SECOND);
        match self.chance.range(0, 99) {
            0..20 if self.app.open => {
                self.app_crashes();
                self.after(back, Job::AppStarts);
            }
            20..35 if self.app.open => {
                self.app_closes();
                self.after(back, Job::AppStarts);
            }
            35..54 => self.agent_dies(),
            54..60 => self.agent_loses_source(),
            60..75 => self.agent_is_stopped(),
            75..82 => {
                self.power_fails();
                self.after(back, Job::AppStarts);
            }
            82..89 => {
                self.database_is_replaced();
                self.after(back, Job::AppStarts);
            }
            89..100 if self.app.open => {
                self.agent_dies();
                self.app_closes();
                self.after(back, Job::AppStarts);
            }
            _ => {}
        }
        if self.agent.is_none() {
            self.after(agent_back, Job::AgentStarts);
        }
        let next = self.chance.around(self.profile.chaos);
        self.after(next, Job::Chaos);
    }
}
