//! Both kinds of store keep the same promises.

use super::*;

fn stores() -> Vec<(Store, Option<tempfile::TempDir>)> {
    let dir = tempfile::tempdir().unwrap();
    let files = Store::in_directory(dir.path().join("replica"), &OpenOptions::default());
    vec![(Store::in_memory(), None), (files, Some(dir))]
}

fn keys(objects: &[Object]) -> Vec<&str> {
    objects.iter().map(|o| o.key.as_str()).collect()
}

#[tokio::test]
async fn what_is_put_is_listed_and_read_and_deleted() {
    for (store, _dir) in stores() {
        assert_eq!(store.list("").await.unwrap(), [], "a replica that does not exist yet is empty");
        let before = Timestamp::now();
        for key in ["generations/b/wal/1", "generations/a/wal/2", "generations/a/wal/1", "other"] {
            assert_eq!(store.put(key, Bytes::from_static(b"0123456789")).await.unwrap(), Put::Created);
        }
        let all = store.list("").await.unwrap();
        assert_eq!(
            keys(&all),
            ["generations/a/wal/1", "generations/a/wal/2", "generations/b/wal/1", "other"]
        );
        assert!(all.iter().all(|o| o.size == 10 && (o.created - before).get_seconds().abs() < 60));
        assert_eq!(
            keys(&store.list("generations/a/").await.unwrap()),
            ["generations/a/wal/1", "generations/a/wal/2"]
        );
        assert_eq!(store.get("other", None).await.unwrap(), &b"0123456789"[..]);
        assert_eq!(store.get("other", Some(3..6)).await.unwrap(), &b"345"[..]);

        let gone = store.delete(&["generations/a/wal/1".into(), "never/was".into()]).await.unwrap();
        assert!(gone.iter().all(|(_, done)| done.is_ok()), "{gone:?}");
        assert_eq!(
            keys(&store.list("generations/").await.unwrap()),
            ["generations/a/wal/2", "generations/b/wal/1"]
        );
        assert_eq!(store.get("generations/a/wal/1", None).await.unwrap_err().kind, Kind::NotFound);
    }
}

#[tokio::test]
async fn a_put_never_replaces() {
    for (store, _dir) in stores() {
        store.put("k", Bytes::from_static(b"one")).await.unwrap();
        assert_eq!(store.put("k", Bytes::from_static(b"one")).await.unwrap(), Put::AlreadyThere);
        let e = store.put("k", Bytes::from_static(b"two")).await.unwrap_err();
        assert_eq!(e.kind, Kind::Diverged);
        assert!(e.to_string().ends_with("/k: exists with other content"), "{e}");
        assert_eq!(store.get("k", None).await.unwrap(), &b"one"[..]);
    }
}

#[tokio::test]
async fn a_streamed_upload_is_visible_only_when_published() {
    for size in [0usize, 5, 30_000_000] {
        for (store, _dir) in stores() {
            let body = Bytes::from((0..size).map(|i| (i % 251) as u8).collect::<Vec<_>>());
            let mut upload = store.upload("g/snapshot").await.unwrap();
            for part in 0..size.div_ceil(700_001) {
                upload.write(body.slice(part * 700_001..size.min((part + 1) * 700_001))).await.unwrap();
            }
            assert_eq!(store.list("").await.unwrap(), []);
            assert_eq!(upload.publish().await.unwrap(), Put::Created);
            assert_eq!(keys(&store.list("").await.unwrap()), ["g/snapshot"]);
            assert!(store.get("g/snapshot", None).await.unwrap() == body);
        }
    }
}

#[tokio::test]
async fn a_dropped_or_aborted_upload_leaves_nothing_behind() {
    for (store, dir) in stores() {
        for abort in [true, false] {
            let mut upload = store.upload("g/snapshot").await.unwrap();
            upload.write(Bytes::from(vec![7; 20_000_000])).await.unwrap();
            if abort {
                upload.abort().await;
            }
        }
        assert_eq!(store.list("").await.unwrap(), []);
        if let Some(dir) = dir {
            assert_eq!(std::fs::read_dir(dir.path().join("replica/g")).unwrap().count(), 0);
        }
    }
}

#[tokio::test]
async fn errors_say_what_was_tried_on_what_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("replica");
    std::fs::write(&root, b"a file").unwrap();
    let store = Store::in_directory(&root, &OpenOptions::default());
    let e = store.list("").await.unwrap_err();
    assert_eq!(e.to_string(), format!("list {}/: invalid: Not a directory", root.display()));
    let e = store.get("k", None).await.unwrap_err();
    assert_eq!(e.to_string(), format!("get {}/k: invalid: Not a directory", root.display()));
}

#[tokio::test]
async fn an_objects_date_is_its_writers_where_it_carries_one() {
    use object_store::{Attribute, Attributes, ObjectStore, PutOptions};
    let store = Store::in_memory();
    let Backend::Remote(remote) = &store.backend else { unreachable!() };
    let put = async |key: &str, date: Option<&'static str>| {
        let attributes: Attributes =
            date.iter().map(|date| (Attribute::Metadata(remote::DATE.into()), *date)).collect();
        let options = PutOptions { attributes, ..PutOptions::default() };
        remote.bucket.put_opts(&key.into(), "x".into(), options).await.unwrap();
    };
    put("0000/a", Some("2026-11-21T07:46:47.26Z")).await;
    put("0000/b", None).await;
    put("0000/c", Some("yesterday")).await;
    let objects = store.list("").await.unwrap();
    assert_eq!(store.date(&objects[0]).await.unwrap().to_string(), "2026-11-21T07:46:47.26Z");
    assert_eq!(store.date(&objects[1]).await.unwrap(), objects[1].created);
    assert_eq!(store.date(&objects[2]).await.unwrap(), objects[2].created);
    let gone = Object { key: "0000/d".into(), ..objects[0].clone() };
    assert_eq!(store.date(&gone).await.unwrap_err().kind, Kind::NotFound);
}
