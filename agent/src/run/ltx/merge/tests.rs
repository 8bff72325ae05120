//! Merging is applying in order, whatever the files; of what is damaged nothing is made.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::format::ltx::{Level, Txid, decode, encode};
use crate::format::wal::{PageSize, Salt};

type Image = BTreeMap<u32, Vec<u8>>;

fn txid(n: u64) -> Txid {
    Txid::new(n).unwrap()
}

fn header(min: u64, max: u64, commit: u32) -> Header {
    Header {
        page_size: PageSize::new(512).unwrap(),
        commit,
        min: txid(min),
        max: txid(max),
        timestamp: 1_000 + max as i64,
        wal: WalPos { offset: 32, size: 536, salt: Salt([7; 8]) },
        node: 9,
        rolling: None,
    }
}

/// Puts a file of these pages; what changed a page is its content.
async fn put(store: &Store, level: u8, header: Header, pages: &Image, encoding: PageEncoding) -> File {
    let name = Name { level: Level::new(level).unwrap(), min: header.min, max: header.max };
    let body = encode(header, encoding, pages.iter().map(|(n, image)| (*n, image.as_slice()))).unwrap();
    let size = body.len() as u64;
    store.put(&name.key(store.ltx_layout()), body.into()).await.unwrap();
    File { name, created: Timestamp::from_millisecond(header.timestamp).unwrap(), size }
}

async fn merged(store: &Store, inputs: &[File], encoding: PageEncoding) -> Result<(Header, Image), Failure> {
    let (first, last) = (inputs[0].name, inputs[inputs.len() - 1].name);
    let name = Name { level: Level::new(1).unwrap(), min: first.min, max: last.max };
    let key = name.key(store.ltx_layout());
    let mut object = Object::new(store, key.clone(), 0, Timestamp::UNIX_EPOCH);
    let trailer = merge(store, inputs, name, encoding, &mut object).await?;
    object.publish().await?;
    let stored = store.get(&key, None).await?;
    assert_eq!(stored.len() as u64, trailer.size);
    let mut pages = Image::new();
    let summary = decode(stored, |n, image| drop(pages.insert(n, image.to_vec()))).unwrap();
    assert_eq!((summary.checksum, summary.pages), (trailer.checksum, trailer.pages));
    Ok((summary.header, pages))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_merge_is_its_inputs_applied_in_order(
        sizes in proptest::collection::vec(1u32..40, 1..12),
        touched in proptest::collection::vec(proptest::collection::btree_set(1u32..40, 0..20), 12),
        base: bool,
        frame: bool,
    ) {
        let encodings = [PageEncoding::Block, PageEncoding::Frame];
        let (encoding, other) = (encodings[usize::from(frame)], encodings[usize::from(!frame)]);
        let start = if base { 1 } else { 5 };
        let (mut expected, mut files, mut grown) = (Image::new(), Vec::new(), 0);
        let store = Store::in_memory();
        for (n, (commit, touched)) in sizes.iter().zip(&touched).enumerate() {
            let id = start + n as u64;
            let full = id == 1;
            let numbers = (1..=*commit).filter(|p| full || *p > grown || touched.contains(p));
            let pages: Image = numbers.map(|p| (p, vec![(id * 7) as u8 ^ p as u8; 512])).collect();
            expected.extend(pages.clone());
            expected.retain(|p, _| p <= commit);
            grown = *commit;
            // Both encodings come mixed in a replica that has seen several versions.
            let encoding = if n % 2 == 0 { encoding } else { other };
            files.push(block_on(put(&store, 0, header(id, id, *commit), &pages, encoding)));
        }
        let (found, pages) = block_on(merged(&store, &files, encoding)).unwrap();
        let last = start + sizes.len() as u64 - 1;
        prop_assert_eq!(found, Header { wal: WalPos::NONE, node: 0, ..header(start, last, grown) });
        prop_assert_eq!(pages, expected);
    }
}

#[test]
fn a_thousand_files_are_merged_at_once() {
    block_on(async {
        let store = Store::in_memory();
        let mut files = Vec::new();
        for id in 2..=1001 {
            let pages = [(id as u32 % 90 + 1, vec![id as u8; 512])].into();
            files.push(put(&store, 0, header(id, id, 100), &pages, PageEncoding::Block).await);
        }
        let (found, pages) = merged(&store, &files, PageEncoding::Block).await.unwrap();
        assert_eq!((found.min, found.max, pages.len()), (txid(2), txid(1001), 90));
        assert_eq!(pages[&(1001 % 90 + 1)][0], 1001u64 as u8, "the newest wins");
    });
}

#[test]
fn of_a_damaged_or_misnamed_file_nothing_is_made() {
    block_on(async {
        let store = Store::in_memory();
        let pages: Image = [(3, vec![3; 512]), (4, vec![4; 512])].into();
        let good = put(&store, 0, header(2, 2, 9), &pages, PageEncoding::Block).await;
        let key = good.name.key(store.ltx_layout());
        let body = store.get(&key, None).await.unwrap();
        for at in [60, 130, body.len() - 20, body.len() - 1] {
            let mut bad = body.to_vec();
            bad[at] ^= 1;
            let name = Name { max: txid(3), min: txid(3), ..good.name };
            let store = Store::in_memory();
            store.put(&key, body.clone()).await.unwrap();
            store.put(&name.key(store.ltx_layout()), bad.into()).await.unwrap();
            let error =
                merged(&store, &[good, File { name, ..good }], PageEncoding::Block).await.unwrap_err();
            assert!(error.to_string().contains("0000000000000003-0000000000000003.ltx: "), "{error}");
        }
        let larger = |id| Header { page_size: PageSize::new(1024).unwrap(), ..header(id, id, 2) };
        let part = put(&store, 0, larger(3), &[(1, vec![1; 1024])].into(), PageEncoding::Block).await;
        let error = merged(&store, &[good, part], PageEncoding::Block).await.unwrap_err();
        assert!(error.to_string().contains("pages of 1024 bytes"), "{error}");
        assert_eq!(store.list("").await.unwrap().len(), 2, "no output");
    });
}

#[test]
fn of_what_is_before_a_full_copy_with_another_page_size_nothing_is_taken() {
    block_on(async {
        let store = Store::in_memory();
        let old = put(&store, 0, header(2, 2, 9), &[(9, vec![3; 512])].into(), PageEncoding::Block).await;
        let larger = |id| Header { page_size: PageSize::new(1024).unwrap(), ..header(id, id, 2) };
        let full: Image = [(1, vec![1; 1024]), (2, vec![2; 1024])].into();
        let copy = put(&store, 0, larger(3), &full, PageEncoding::Block).await;
        let last = put(&store, 0, larger(4), &[(2, vec![4; 1024])].into(), PageEncoding::Block).await;
        let (found, pages) = merged(&store, &[old, copy, last], PageEncoding::Block).await.unwrap();
        assert_eq!((found.min, found.max, found.page_size.get()), (txid(2), txid(4), 1024));
        assert_eq!(pages, [(1, vec![1; 1024]), (2, vec![4; 1024])].into());
    });
}
