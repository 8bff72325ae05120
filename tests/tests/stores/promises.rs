//! What the agent asks of a store, whatever it is: creates that never replace, ranges, whole listings, dates, uploads in
//! parts. Each promise takes an empty store.

use bytes::Bytes;
use futures_util::StreamExt;
use holdfast::format::ltx::Layout;
use holdfast::store::{ConditionalCreate, Kind, Object, Put, Remark, Store, StoreError};
use jiff::Timestamp;

/// `open` gives an empty store of the name's own.
pub(super) async fn keeps_every_promise(open: impl Fn(&str) -> Store, layout: Layout) {
    assert_eq!(open("layout").ltx_layout(), layout);
    of_sixteen_creators_one_wins(&open("race")).await;
    a_range_is_that_range(&open("ranges")).await;
    more_than_a_page_is_listed_whole_and_deleted(&open("pages")).await;
    an_object_keeps_the_date_it_was_given(&open("dates")).await;
    an_upload_in_parts_creates_and_never_replaces(&open("parts")).await;
    an_upload_that_was_overtaken_replaces_nothing(&open("overtaken")).await;
    an_interrupted_upload_leaves_no_object(&open("interrupted")).await;
}

/// As [`keeps_every_promise`], where the condition is ignored: of those who create at the same moment each one but the
/// last may be replaced, and one of two notices at the latest with its next object.
pub(super) async fn keeps_promises_by_looking(open: impl Fn(&str) -> Store) {
    let learnt = async |name: &str| {
        let store = open(name);
        assert_eq!(store.remarks(), []);
        assert_eq!(store.learn().await.unwrap(), ConditionalCreate::Ignored);
        assert_eq!(store.remarks(), [Remark::NotCreateOnly(ConditionalCreate::Ignored)]);
        store
    };
    an_object_that_is_there_is_not_replaced(&learnt("there").await).await;
    who_was_replaced_notices_with_the_next_object(&learnt("two").await, &open("two")).await;
    a_range_is_that_range(&learnt("ranges").await).await;
    an_object_keeps_the_date_it_was_given(&learnt("dates").await).await;
    an_upload_in_parts_creates_and_never_replaces(&learnt("parts").await).await;
    an_upload_that_was_overtaken_replaces_nothing(&learnt("overtaken").await).await;
    an_interrupted_upload_leaves_no_object(&learnt("interrupted").await).await;
}

pub(super) async fn an_object_that_is_there_is_not_replaced(store: &Store) {
    assert_eq!(store.put("k", bytes(1000)).await.unwrap(), Put::Created);
    assert_eq!(store.put("k", bytes(1000)).await.unwrap(), Put::AlreadyThere);
    let e = store.put("k", bytes(1001)).await.unwrap_err();
    assert_eq!(e.kind, Kind::Diverged, "{e}");
    assert_eq!(store.get("k", None).await.unwrap(), bytes(1000));
}

/// `theirs` does not look: a writer that was between its look and its put all the time.
async fn who_was_replaced_notices_with_the_next_object(ours: &Store, theirs: &Store) {
    for key in ["wal/1", "wal/2"] {
        assert_eq!(ours.put(key, bytes(100)).await.unwrap(), Put::Created);
    }
    assert_eq!(theirs.put("wal/2", bytes(99)).await.unwrap(), Put::Created);
    assert_eq!(ours.put("other/1", bytes(7)).await.unwrap(), Put::Created);
    let e = ours.put("wal/3", bytes(100)).await.unwrap_err();
    assert_eq!(e.kind, Kind::Diverged, "{e}");
    assert!(e.object.ends_with("wal/2") && e.cause == "it was replaced after it was created", "{e}");
    // Said once; the next one is a beginning.
    assert_eq!(ours.put("wal/3", bytes(100)).await.unwrap(), Put::Created);
}

async fn of_sixteen_creators_one_wins(store: &Store) {
    let put = |i: u8| async move { (i, store.put("k", Bytes::from(vec![i; 1000])).await) };
    let done: Vec<_> = futures_util::stream::iter((0..16).map(put)).buffer_unordered(16).collect().await;
    let mut winners = Vec::new();
    for (i, result) in done {
        match result {
            Ok(Put::Created) => winners.push(i),
            Ok(Put::AlreadyThere) => panic!("{i} took another's object for its own"),
            Err(e) => assert!(matches!(e.kind, Kind::Diverged | Kind::Unavailable), "{e}"),
        }
    }
    let [winner] = winners[..] else { panic!("{winners:?} won") };
    assert_eq!(store.get("k", None).await.unwrap(), vec![winner; 1000]);
    assert_eq!(store.put("k", Bytes::from(vec![winner; 1000])).await.unwrap(), Put::AlreadyThere);
}

async fn a_range_is_that_range(store: &Store) {
    let body = bytes(100_000);
    store.put("k", body.clone()).await.unwrap();
    for range in [0..1, 5..70_000, 99_999..100_000, 0..100_000] {
        let (from, to) = (range.start as usize, range.end as usize);
        assert!(store.get("k", Some(range.clone())).await.unwrap() == body[from..to], "{range:?}");
    }
    assert_eq!(store.get("k", Some(99_000..100_001)).await.unwrap_err().kind, Kind::Invalid);
    assert_eq!(store.get("none", None).await.unwrap_err().kind, Kind::NotFound);
    assert_eq!(store.get("none", Some(0..1)).await.unwrap_err().kind, Kind::NotFound);
}

/// A page has a thousand objects; so has a request that deletes on S3, and 256 on Azure.
pub(super) async fn more_than_a_page_is_listed_whole_and_deleted(store: &Store) {
    let mut keys: Vec<_> = (0..1_100).map(|i| format!("f{}/{i:08x}", i % 3)).collect();
    // rclone answers 500 to some of several first puts into a folder; what is unavailable the agent tries again, too.
    let put = |key: &String| {
        let key = key.clone();
        async move {
            for _ in 0..4 {
                match store.put(&key, Bytes::from(key.clone())).await {
                    Err(e) if e.kind == Kind::Unavailable => {}
                    put => return put.unwrap(),
                }
            }
            panic!("{key} was refused four times")
        }
    };
    let created: Vec<_> =
        futures_util::stream::iter(keys.iter().map(put)).buffer_unordered(32).collect().await;
    // A put that was answered with an error may have created it all the same.
    let there = created.iter().filter(|put| **put == Put::AlreadyThere).count();
    assert!(there < 10, "{there} were there already");
    keys.sort();
    assert_eq!(listed(store, "").await, keys);
    let folder: Vec<_> = keys.iter().filter(|key| key.starts_with("f1/")).cloned().collect();
    assert_eq!(listed(store, "f1/").await, folder);

    let gone = [&keys[..1_050], &["never/was".to_owned()]].concat();
    let done = store.delete(&gone).await.unwrap();
    assert_eq!(done.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), gone);
    assert!(done.iter().all(|(_, result)| result.is_ok()), "{done:?}");
    assert_eq!(listed(store, "").await, keys[1_050..]);
}

pub(super) async fn an_object_keeps_the_date_it_was_given(store: &Store) {
    let mut date: Timestamp = "2024-02-29T12:34:56.789Z".parse().unwrap();
    if store.to_string().starts_with("sftp:") {
        // The date of a file in SFTP 3 has no more.
        date = Timestamp::from_second(date.as_second()).unwrap();
    }
    store.put_dated("small", bytes(10), date).await.unwrap();
    let mut upload = store.upload_dated("large", 0, date).await.unwrap();
    upload.write(bytes(9 << 20)).await.unwrap();
    assert_eq!(upload.publish().await.unwrap(), Put::Created);
    store.put("undated", bytes(10)).await.unwrap();
    for object in objects(store, "").await {
        let found = store.date(&object).await.unwrap();
        match object.key.as_str() {
            "undated" => assert_eq!(found, object.created),
            key => assert_eq!(found, date, "{key}"),
        }
    }
}

pub(super) async fn an_upload_in_parts_creates_and_never_replaces(store: &Store) {
    // Below a part, exactly two of them, and two and a bit.
    for len in [0, 5, 16 << 20, (16 << 20) + 12_345] {
        let key = format!("k{len}");
        let body = bytes(len);
        assert_eq!(upload(store, &key, &body).await.unwrap(), Put::Created);
        assert!(store.get(&key, None).await.unwrap() == body, "{len}");
    }
    let body = bytes((16 << 20) + 12_345);
    let key = format!("k{}", body.len());
    assert_eq!(listed(store, "").await.len(), 4);
    // Once more, as after an answer that was lost.
    let again = upload(store, &key, &body).await;
    match again {
        Ok(Put::AlreadyThere) => {}
        // In a directory nothing is lost between the file and its name: there it is another's.
        Err(e) if store.is_local() => assert_eq!(e.kind, Kind::Diverged, "{e}"),
        other => panic!("{other:?}"),
    }
    let mut other = body.to_vec();
    other[20] ^= 1;
    *other.last_mut().unwrap() ^= 1;
    let e = upload(store, &key, &other.into()).await.unwrap_err();
    assert_eq!(e.kind, Kind::Diverged, "{e}");
    assert!(store.get(&key, None).await.unwrap() == body, "what was there stays");
}

async fn an_upload_that_was_overtaken_replaces_nothing(store: &Store) {
    let mut slow = store.upload("k").await.unwrap();
    slow.write(bytes(20 << 20)).await.unwrap();
    assert_eq!(store.put("k", Bytes::from_static(b"overtaking")).await.unwrap(), Put::Created);
    let e = slow.publish().await.unwrap_err();
    assert_eq!(e.kind, Kind::Diverged, "{e}");
    assert_eq!(store.get("k", None).await.unwrap(), &b"overtaking"[..]);
}

async fn an_interrupted_upload_leaves_no_object(store: &Store) {
    for aborted in [true, false] {
        let mut upload = store.upload("k").await.unwrap();
        upload.write(bytes(20 << 20)).await.unwrap();
        if aborted {
            upload.abort().await;
        }
    }
    assert_eq!(listed(store, "").await, [""; 0]);
    let body = bytes(9 << 20);
    assert_eq!(upload(store, "k", &body).await.unwrap(), Put::Created);
    assert!(store.get("k", None).await.unwrap() == body);
}

pub(super) async fn upload(store: &Store, key: &str, body: &Bytes) -> Result<Put, StoreError> {
    let mut upload = store.upload(key).await?;
    for from in (0..body.len()).step_by(1_000_001) {
        upload.write(body.slice(from..body.len().min(from + 1_000_001))).await?;
    }
    upload.publish().await
}

pub(super) async fn listed(store: &Store, prefix: &str) -> Vec<String> {
    objects(store, prefix).await.into_iter().map(|object| object.key).collect()
}

/// But for the one that finds out whether objects are replaced.
async fn objects(store: &Store, prefix: &str) -> Vec<Object> {
    let all = store.list(prefix).await.unwrap();
    all.into_iter().filter(|object| !object.key.starts_with("holdfast/")).collect()
}

pub(super) fn bytes(len: usize) -> Bytes {
    (0..len).map(|i| (i % 251) as u8).collect::<Vec<_>>().into()
}
