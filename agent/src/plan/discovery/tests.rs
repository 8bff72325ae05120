//! A directory over time, scan by scan.

use super::*;

const MS: Duration = Duration::from_millis(1);

fn id(ino: u64) -> FileId {
    FileId { dev: 1, ino }
}

fn listing(found: &[(&str, u64, What)]) -> Listing {
    let found = found.iter().map(|(path, ino, what)| (PathBuf::from(path), (id(*ino), *what))).collect();
    Listing { found, ..Listing::default() }
}

/// The orders of one scan, as `follow /a`.
fn scan(machine: &mut Discovery, found: &[(&str, u64, What)]) -> Vec<String> {
    said(machine, &listing(found))
}

fn said(machine: &mut Discovery, listing: &Listing) -> Vec<String> {
    machine.begin();
    let orders = machine.scanned(Duration::ZERO, MS, listing);
    let text = |order| match order {
        Order::Follow(p) => format!("follow {}", p.display()),
        Order::Leave(p) => format!("leave {}", p.display()),
        Order::Hurry(p) => format!("hurry {}", p.display()),
        Order::Tell(p, notice) => format!("{} {notice}", p.display()),
    };
    orders.into_iter().map(text).collect()
}

#[test]
fn a_database_is_followed_from_its_header_on_and_left_when_it_is_gone() {
    let mut machine = Discovery::new();
    assert_eq!(scan(&mut machine, &[("/a", 1, What::Empty)]), [""; 0]);
    assert!(machine.awaits("/a".as_ref()));
    assert_eq!(scan(&mut machine, &[("/a", 1, What::Database)]), ["follow /a"]);
    assert!(!machine.awaits("/a".as_ref()));
    assert_eq!(scan(&mut machine, &[("/a", 1, What::Database)]), [""; 0]);
    assert_eq!(scan(&mut machine, &[]), ["leave /a"]);
    assert_eq!(scan(&mut machine, &[]), [""; 0]);
    machine.ended(MS, "/a".as_ref());
    assert_eq!(scan(&mut machine, &[("/a", 2, What::Database)]), ["follow /a"]);
}

#[test]
fn one_that_comes_back_goes_on_once_the_old_one_is_let_go() {
    let mut machine = Discovery::new();
    scan(&mut machine, &[("/a", 1, What::Database)]);
    scan(&mut machine, &[]);
    assert_eq!(scan(&mut machine, &[("/a", 1, What::Database)]), ["hurry /a"]);
    assert_eq!(scan(&mut machine, &[("/a", 1, What::Database)]), [""; 0]);
    machine.ended(MS, "/a".as_ref());
    assert_eq!(scan(&mut machine, &[("/a", 1, What::Database)]), ["follow /a"]);
}

#[test]
fn another_file_at_its_path_is_another_database() {
    let mut machine = Discovery::new();
    scan(&mut machine, &[("/a", 1, What::Database)]);
    assert_eq!(scan(&mut machine, &[("/a", 2, What::Database)]), ["leave /a", "hurry /a"]);
    machine.ended(MS, "/a".as_ref());
    assert_eq!(scan(&mut machine, &[("/a", 2, What::Database)]), ["follow /a"]);
}

#[test]
fn a_new_name_waits_until_the_old_one_is_let_go() {
    let mut machine = Discovery::new();
    scan(&mut machine, &[("/b", 1, What::Database)]);
    assert_eq!(scan(&mut machine, &[("/a", 1, What::Database)]), ["leave /b", "hurry /b"]);
    assert_eq!(scan(&mut machine, &[("/a", 1, What::Database)]), [""; 0]);
    machine.ended(MS, "/b".as_ref());
    assert_eq!(scan(&mut machine, &[("/a", 1, What::Database)]), ["follow /a"]);
}

#[test]
fn a_second_name_of_one_file_is_told_once() {
    let mut machine = Discovery::new();
    let both = [("/a", 1, What::Database), ("/b", 1, What::Database)];
    assert_eq!(scan(&mut machine, &both), ["follow /a", "/b is the same file as /a"]);
    assert_eq!(scan(&mut machine, &both), [""; 0]);
}

#[test]
fn what_is_no_database_is_told_once_and_again_when_it_came_back() {
    let mut machine = Discovery::new();
    let said = ["/a matches the pattern and is not a SQLite database (encrypted?)"];
    let foreign = [("/a", 1, What::Foreign)];
    assert_eq!(scan(&mut machine, &foreign), said);
    assert_eq!(scan(&mut machine, &foreign), [""; 0]);
    assert_eq!(scan(&mut machine, &[]), [""; 0]);
    assert_eq!(scan(&mut machine, &foreign), said);
    assert_eq!(scan(&mut machine, &[("/a", 1, What::Database)]), ["follow /a"]);
}

#[test]
fn a_folder_that_cannot_be_read_says_nothing_about_its_databases() {
    let mut machine = Discovery::new();
    scan(&mut machine, &[("/t/a", 1, What::Database), ("/b", 2, What::Database)]);
    let unread = Listing { unread: ["/t".into()].into(), ..Listing::default() };
    assert_eq!(said(&mut machine, &unread), ["leave /b"]);
    assert_eq!(scan(&mut machine, &[]), ["leave /t/a"]);
}

#[test]
fn nobody_opens_a_file_that_is_replicated_until_its_loop_has_ended() {
    let mut machine = Discovery::new();
    scan(&mut machine, &[("/a", 1, What::Database)]);
    scan(&mut machine, &[]);
    assert!(machine.files().contains(&id(1)));
    machine.ended(MS, "/a".as_ref());
    assert!(machine.files().is_empty());
}

#[test]
fn a_directory_that_never_rests_is_scanned_as_often_as_its_cost_allows() {
    for (cost, most) in [(MS, 10), (10 * MS, 2)] {
        let (mut machine, mut scans) = (Discovery::new(), 0);
        for ms in 0..1000 {
            let now = ms * MS;
            machine.hear(now);
            if machine.due().is_some_and(|due| due <= now) {
                machine.begin();
                machine.scanned(now, cost, &Listing::default());
                scans += 1;
            }
        }
        assert_eq!(scans, most);
    }
}

#[test]
fn a_change_heard_during_a_scan_leads_to_another() {
    let mut machine = Discovery::new();
    machine.begin();
    assert_eq!(machine.due(), None);
    machine.hear(MS);
    machine.scanned(2 * MS, MS, &Listing::default());
    assert_eq!(machine.due(), Some(2 * MS + PAUSE));
}

#[test]
fn silence_is_checked_once_a_minute_and_once_a_second_where_nothing_is_heard() {
    let mut machine = Discovery::new();
    machine.begin();
    machine.scanned(Duration::ZERO, MS, &Listing::default());
    assert_eq!(machine.due(), Some(SAFETY));
    machine.begin();
    machine.scanned(Duration::ZERO, MS, &Listing { deaf: true, ..Listing::default() });
    assert_eq!(machine.due(), Some(DEAF));
}
