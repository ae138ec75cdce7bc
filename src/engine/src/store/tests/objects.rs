//! Objects come in whole, are checked on their way out, and never change.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

fn file_in(dir: &Path, bytes: &[u8]) -> std::path::PathBuf {
    let path = dir.join("file");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_file_moves_in_and_stays_as_it_is() {
    let home = Home::new();
    let store = home.open();
    let tmp = store.tmp_dir().unwrap();
    let entry = entry_of(b"abc");
    store
        .import_file(&file_in(tmp.path(), b"abc"), entry.digest, 3)
        .unwrap();
    assert!(names_in(tmp.path()).is_empty());
    let path = store.checked_path(&entry).unwrap();
    let first = fs::metadata(&path).unwrap();
    assert_eq!(first.permissions().mode() & 0o777, 0o444);
    store
        .import_file(&file_in(tmp.path(), b"abc"), entry.digest, 3)
        .unwrap();
    let second = fs::metadata(&path).unwrap();
    assert_eq!(
        (first.ino(), first.mtime_nsec()),
        (second.ino(), second.mtime_nsec())
    );
    assert!(names_in(tmp.path()).is_empty(), "the second is gone");
    let folder = tmp.path().to_owned();
    drop(tmp);
    assert!(!folder.exists());
}

#[test]
fn an_object_is_no_more_readable_than_the_file_was() {
    // What processes with these umasks create: 022, 027, 077.
    for (mode, sealed) in [(0o644, 0o444), (0o640, 0o440), (0o600, 0o400)] {
        let home = Home::new();
        let store = home.open();
        let tmp = store.tmp_dir().unwrap();
        let path = file_in(tmp.path(), b"abc");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let entry = entry_of(b"abc");
        store.import_file(&path, entry.digest, 3).unwrap();
        let object = fs::metadata(store.checked_path(&entry).unwrap()).unwrap();
        assert_eq!(object.permissions().mode() & 0o777, sealed, "{mode:o}");
    }
}

#[test]
fn what_is_not_as_said_stays_out() {
    let home = Home::new();
    let store = home.open();
    let tmp = store.tmp_dir().unwrap();
    let path = file_in(tmp.path(), b"abc");
    let digest = Digest::of(b"abc");
    assert!(store.import_file(&path, digest, 4).is_err(), "length");
    assert!(store.import_file(tmp.path(), digest, 3).is_err(), "folder");
    let link = tmp.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(
        store.import_file(&link, digest, 3).is_err(),
        "symbolic link"
    );
    assert!(store.objects().unwrap().is_empty());
}

#[test]
fn a_file_with_another_name_is_copied() {
    let home = Home::new();
    let store = home.open();
    let tmp = store.tmp_dir().unwrap();
    let path = file_in(tmp.path(), b"abc");
    let other = home.dir.path().join("users-file");
    fs::hard_link(&path, &other).unwrap();
    let entry = entry_of(b"abc");
    store.import_file(&path, entry.digest, 3).unwrap();
    fs::write(&other, b"xyz").unwrap();
    assert_eq!(store.read_object(&entry).unwrap(), b"abc");
}

#[test]
fn an_output_folder_is_adopted() {
    let home = Home::new();
    let store = home.open();
    let tmp = store.tmp_dir().unwrap();
    let mut out = stage_core::Output::new(tmp.path());
    out.write("a.txt", b"one").unwrap();
    out.write("deep/b.txt", b"two").unwrap();
    let (tree, written) = out.seal().unwrap();
    let artifact = store.adopt(tmp.path(), &tree, &written).unwrap();
    assert_eq!(artifact.tree(), tree);
    let input = store.input(&tree).unwrap();
    assert_eq!(input.read("deep/b.txt", 10).unwrap(), b"two");
    assert_eq!(input.read("a.txt", 10).unwrap(), b"one");
}

#[test]
fn damage_is_named_moved_away_and_mended_by_the_right_bytes() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 5] = [
        ("flip", |p| fs::write(p, b"abcdEf").unwrap()),
        ("cut", |p| fs::write(p, b"abc").unwrap()),
        ("empty", |p| fs::write(p, b"").unwrap()),
        ("grown", |p| fs::write(p, b"abcdef!").unwrap()),
        ("gone", |p| fs::remove_file(p).unwrap()),
    ];
    for (case, damage) in cases {
        for reader in 0..4 {
            let home = Home::new();
            let entry = home.open().import_bytes(b"abcdef").unwrap();
            let store = home.open();
            let path = store.object_path(entry.digest);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            damage(&path);
            let error = match reader {
                0 => store.checked_path(&entry).map(drop),
                1 => store.open_object(&entry).map(drop),
                2 => store.read_object(&entry).map(drop),
                _ => store
                    .input(&Tree(BTreeMap::from([("x".to_owned(), entry)])))
                    .map(drop),
            };
            let error = error.unwrap_err();
            assert_eq!(error.lost_object(), Some(entry.digest), "{case}: {error}");
            assert!(!path.exists(), "{case}");
            store.import_bytes(b"abcdef").unwrap();
            assert_eq!(store.read_object(&entry).unwrap(), b"abcdef", "{case}");
        }
    }
}

#[test]
fn wrong_bytes_in_place_never_win_over_right_ones() {
    let home = Home::new();
    let entry = home.open().import_bytes(b"abcdef").unwrap();
    let store = home.open();
    let path = store.object_path(entry.digest);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, b"abcdeX").unwrap();
    store.import_bytes(b"abcdef").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"abcdef");
    assert!(home.warnings()[0].contains("was damaged and has been replaced"));
}

#[test]
fn a_self_checking_file_is_measured_for_its_reader_and_compared_for_all_others() {
    let home = Home::new();
    let entry = home.open().import_bytes(b"abcdef").unwrap();
    let entry = Entry {
        self_checked: true,
        ..entry
    };
    let store = home.open();
    let path = store.object_path(entry.digest);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let tree = Tree(BTreeMap::from([("x".to_owned(), entry)]));
    fs::write(&path, b"abcdeX").unwrap();
    assert!(store.input(&tree).is_ok());
    let damaged = Err(Some(entry.digest));
    let lost = |result: Result<_>| result.map_err(|error| error.lost_object());
    assert_eq!(lost(store.checked_path(&entry).map(drop)), damaged);
    fs::write(&path, b"abcde").unwrap();
    assert_eq!(lost(store.input(&tree).map(drop)), damaged);
}

#[test]
fn a_copy_that_leaves_the_store_is_compared() {
    for self_checked in [false, true] {
        let home = Home::new();
        let store = home.open();
        let entry = store.import_bytes(b"abcdef").unwrap();
        let entry = Entry {
            self_checked,
            ..entry
        };
        let copy = home.dir.path().join("copy");
        store.copy_out(&entry, &copy).unwrap();
        assert_eq!(fs::read(&copy).unwrap(), b"abcdef");
        fs::remove_file(&copy).unwrap();
        // Compared each time: this process wrote it, and it was damaged since.
        let path = store.object_path(entry.digest);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&path, b"abcdeX").unwrap();
        let error = store.copy_out(&entry, &copy).unwrap_err();
        assert_eq!(error.lost_object(), Some(entry.digest), "{error}");
        assert!(!copy.exists(), "no wrong copy stays");
    }
}

#[test]
fn what_a_reader_found_damaged_is_compared_again() {
    let home = Home::new();
    let store = home.open();
    let whole = store.import_bytes(b"abcdef").unwrap();
    let hurt = store.import_bytes(b"ghijkl").unwrap();
    // This process wrote both and trusts them; one was damaged since, at its length.
    let path = store.object_path(hurt.digest);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, b"ghijkX").unwrap();
    let lost = store.lost_of([whole, hurt], &Cancel::default()).unwrap();
    assert_eq!(lost, BTreeSet::from([hurt.digest]));
    assert!(!path.exists(), "room is made for the right bytes");
}

#[test]
fn something_in_place_of_a_folder_of_objects_is_moved_away() {
    let home = Home::new();
    let entry = home.open().import_bytes(b"abcdef").unwrap();
    let store = home.open();
    let path = store.object_path(entry.digest);
    let folder = path.parent().unwrap();
    fs::remove_dir_all(folder).unwrap();
    fs::write(folder, b"mine").unwrap();
    let error = store.read_object(&entry).unwrap_err();
    assert_eq!(error.lost_object(), Some(entry.digest), "{error}");
    store.import_bytes(b"abcdef").unwrap();
    assert_eq!(store.read_object(&entry).unwrap(), b"abcdef");
    let trash = home.root().join("trash");
    let names = names_in(&trash);
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(fs::read(trash.join(&names[0])).unwrap(), b"mine");
}

#[test]
fn an_object_that_is_no_regular_file_is_damaged() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 2] = [
        ("folder", |p| fs::create_dir(p).unwrap()),
        ("link", |p| {
            let right = p.with_extension("right");
            fs::write(&right, b"abcdef").unwrap();
            std::os::unix::fs::symlink(&right, p).unwrap();
        }),
    ];
    for (case, damage) in cases {
        let home = Home::new();
        let entry = home.open().import_bytes(b"abcdef").unwrap();
        let store = home.open();
        let path = store.object_path(entry.digest);
        fs::remove_file(&path).unwrap();
        damage(&path);
        let error = store.read_object(&entry).unwrap_err();
        assert_eq!(error.lost_object(), Some(entry.digest), "{case}: {error}");
        store.import_bytes(b"abcdef").unwrap();
        assert_eq!(store.read_object(&entry).unwrap(), b"abcdef", "{case}");
    }
}

#[test]
fn what_the_dead_left_is_swept_and_the_living_keep_theirs() {
    let home = Home::new();
    let living = home.open();
    let kept = living.tmp_dir().unwrap();
    let dead = Ulid::new();
    let folder = home.root().join("tmp").join(format!("{dead}-0"));
    fs::create_dir_all(folder.join("deep")).unwrap();
    fs::write(folder.join("deep/file"), b"x").unwrap();
    fs::write(home.root().join("leases").join(dead.to_string()), b"{}\n").unwrap();
    let store = home.open();
    assert!(store.hold(&[key(1), key(2)], store.generation()).unwrap());
    assert!(!folder.exists());
    assert!(kept.path().exists());
    let leases = store.leases().unwrap();
    assert_eq!(leases.len(), 2);
    assert!(leases.iter().any(|lease| lease.digests == [key(1), key(2)]));
    let pids: Vec<_> = leases
        .iter()
        .map(|l| l.holder.as_ref().unwrap().pid)
        .collect();
    assert_eq!(pids, [std::process::id(); 2]);
    drop((kept, living));
    assert_eq!(store.leases().unwrap().len(), 1);
}
