//! Many processes at one store.

use std::process::{Child, Command};
use std::time::Duration;

use super::*;
use crate::fs::sim::{Error, Fault, SimFs};

const ROOT: &str = "STORE_TEST_ROOT";
const MODE: &str = "STORE_TEST_MODE";
const ACTIONS: usize = 60;

/// Another process, ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// This test's own executable, as another process at the same store.
fn spawn(home: &Home, mode: &str) -> Process {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "store::tests::claims::other_process",
            "--nocapture",
        ])
        .env(ROOT, home.root())
        .env(MODE, mode)
        .spawn()
        .unwrap();
    Process(child)
}

/// Does every action that nobody has done, and notes the doing in a file.
fn work(store: &Store, log: &Path) {
    let id = std::process::id() as usize;
    for n in (0..ACTIONS).map(|n| (n + id * 7) % ACTIONS) {
        let wait = |_: Option<&Holder>| ControlFlow::Continue(());
        let claim = store.claim(&key(n), wait).unwrap();
        if store.lookup_fresh(&key(n)).unwrap().is_some() {
            continue;
        }
        std::fs::write(log.join(format!("{n}-{id}-{}", Ulid::new())), b"").unwrap();
        let entry = store.import_bytes(&content(n)).unwrap();
        let tree = Tree(BTreeMap::from([("out.txt".to_owned(), entry)]));
        let record = Record::Action(action(n, Outcome::Done(Artifact::new(&tree))));
        store.queue(record, Some(claim)).unwrap();
    }
    store.flush().unwrap();
}

/// A store on a disk without hard links and without a rename that replaces nothing.
fn open_without_links(home: &Home, root: &Path) -> Store {
    let disk = SimFs::new(root, &["index.db", "index.db-wal"]).unwrap();
    let options = StoreOptions {
        fs: Arc::new(disk.without_links()),
        ..home.options()
    };
    Store::open(root, options).unwrap()
}

/// Not a test of its own: the body of the other processes.
#[test]
fn other_process() {
    let Some(root) = std::env::var_os(ROOT).map(std::path::PathBuf::from) else {
        return;
    };
    let home = Home::new();
    let mode = std::env::var(MODE).unwrap();
    let store = if mode == "work without links" {
        open_without_links(&home, &root)
    } else {
        Store::open(&root, home.options()).unwrap()
    };
    match mode.as_str() {
        "work" | "work without links" => work(&store, &root.join("../log")),
        "hold" => {
            let _claims = [0, 1].map(|n| store.claim(&key(n), never_wait).unwrap());
            let _tmp = store.tmp_dir().unwrap();
            std::thread::sleep(Duration::from_secs(600));
        }
        mode => panic!("{mode}"),
    }
}

#[test]
fn several_processes_do_each_action_once() {
    each_action_is_done_once("work", Home::open);
}

#[test]
fn several_processes_do_each_action_once_without_links() {
    each_action_is_done_once("work without links", |home| {
        drop(home.open());
        open_without_links(home, &home.root())
    });
}

fn each_action_is_done_once(mode: &str, open: impl Fn(&Home) -> Store) {
    let home = Home::new();
    let store = open(&home);
    let log = home.dir.path().join("log");
    std::fs::create_dir(&log).unwrap();
    let children: Vec<_> = (0..3).map(|_| spawn(&home, mode)).collect();
    work(&store, &log);
    for mut child in children {
        assert!(child.0.wait().unwrap().success());
    }
    let mut done: Vec<usize> = names_in(&log)
        .iter()
        .map(|name| name.split('-').next().unwrap().parse().unwrap())
        .collect();
    done.sort_unstable();
    assert_eq!(done, (0..ACTIONS).collect::<Vec<_>>());
    store.refresh().unwrap();
    assert_eq!(known(&store, ACTIONS), ACTIONS);
    assert_eq!(known(&home.open(), ACTIONS), ACTIONS);
    assert!(names_in(&home.root().join("claims")).is_empty());
    assert_eq!(home.warnings(), [""; 0]);
}

#[test]
fn waiting_says_for_whom_and_a_kill_frees_the_claim() {
    let home = Home::new();
    let store = home.open();
    let mut child = spawn(&home, "hold");
    // It makes a temporary folder when it has the claim.
    while names_in(&home.root().join("tmp")).is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut seen = None;
    let claim = store.claim(&key(0), |holder| {
        if seen.is_none() {
            seen = holder.cloned();
            child.0.kill().unwrap();
        }
        ControlFlow::Continue(())
    });
    let claim = claim.unwrap();
    assert!(claim.waited());
    let seen = seen.unwrap();
    assert_eq!(seen.pid, child.0.id());
    assert!(seen.since > 0 && !seen.host.is_empty());
    // Its temporary folder and lease go with the next lease taken.
    assert_eq!(names_in(&home.root().join("tmp")).len(), 1);
    let next = home.open();
    assert!(next.hold(&[], next.generation()).unwrap());
    assert!(names_in(&home.root().join("tmp")).is_empty());
    assert_eq!(next.leases().unwrap().len(), 2);
    // To have one of its claims is not to have them all.
    drop(next.claim(&key(1), never_wait).unwrap());
    drop(claim);
}

#[test]
fn where_there_are_no_links_a_claim_is_a_file_of_its_own() {
    let home = Home::new();
    drop(home.open());
    let (without, with) = (open_without_links(&home, &home.root()), home.open());
    for (one, other) in [(&without, &with), (&with, &without)] {
        let claims = [0, 1].map(|n| one.claim(&key(n), never_wait).unwrap());
        let mut holder = None;
        let busy = other.claim(&key(0), |seen| {
            holder = seen.cloned();
            ControlFlow::Break(())
        });
        assert!(matches!(busy, Err(StoreError::Cancelled)));
        assert_eq!(holder.unwrap().pid, std::process::id());
        drop(claims);
        drop(other.claim(&key(0), never_wait).unwrap());
    }
    // What somebody who died left is taken over.
    let path = home.root().join("claims").join(key(2).to_hex());
    std::fs::write(path, "x".repeat(100_000)).unwrap();
    let claim = without.claim(&key(2), never_wait).unwrap();
    let busy = with.claim(&key(2), |seen| {
        assert!(seen.is_some());
        ControlFlow::Break(())
    });
    assert!(matches!(busy, Err(StoreError::Cancelled)));
    drop(claim);
    assert!(names_in(&home.root().join("claims")).is_empty());
}

#[test]
fn a_claim_ends_although_its_name_cannot_be_removed() {
    let home = Home::new();
    drop(home.open());
    let disk = SimFs::new(&home.root(), &["index.db", "index.db-wal"]).unwrap();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let store = Store::open(
        &home.root(),
        StoreOptions {
            fs,
            ..home.options()
        },
    )
    .unwrap();
    disk.fail(Fault::Line {
        start: "remove claims/".to_owned(),
        error: Error::Device,
    });
    drop(store.claim(&key(0), never_wait).unwrap());
    drop(store.claim(&key(1), never_wait).unwrap());
    // It does not wait for itself.
    let claim = store.claim(&key(0), never_wait).unwrap();
    disk.fail(Fault::None);
    drop(claim);
    assert!(names_in(&home.root().join("claims")).is_empty());
}

#[test]
fn waiting_can_be_given_up() {
    let home = Home::new();
    let store = home.open();
    let claim = store.claim(&key(0), never_wait).unwrap();
    let given_up = home.open().claim(&key(0), |_| ControlFlow::Break(()));
    assert!(matches!(given_up, Err(StoreError::Cancelled)));
    drop(claim);
    assert!(!store.claim(&key(0), never_wait).unwrap().waited());
}

#[test]
fn what_another_commits_is_found_at_once() {
    let home = Home::new();
    let elsewhere = Home::new();
    // As another process does before it has folded it into the index that both share.
    let commit = |n: usize| {
        let store = elsewhere.open();
        let from = elsewhere.root().join("commits");
        let before = names_in(&from);
        perform_all(&store, n..n + 1);
        for name in names_in(&from).iter().filter(|name| !before.contains(name)) {
            let to = home.root().join("commits").join(name);
            std::fs::copy(from.join(name), to).unwrap();
        }
    };
    // Until the times of the folders tell one state of them from another.
    let settle = || std::thread::sleep(Duration::from_millis(50));
    let finds = |store: &Store, n| store.lookup_fresh(&key(n)).unwrap().is_some();
    let (store, other) = (home.open(), home.open());
    for store in [&store, &other] {
        store.tmp_dir().unwrap();
    }
    settle();
    assert!(!finds(&store, 0));
    commit(0);
    assert!(finds(&store, 0));
    drop(other);
    // It is alone now, and looks at nothing but whether it still is.
    settle();
    assert!(!finds(&store, 1));
    perform_all(&store, 2..3);
    assert!(!finds(&store, 1));
    home.open().tmp_dir().unwrap();
    commit(1);
    assert!(finds(&store, 1));
}

#[test]
fn a_claim_ends_when_its_record_is_durable() {
    let home = Home::new();
    let store = home.open();
    let claim = store.claim(&key(0), never_wait).unwrap();
    let entry = store.import_bytes(&content(0)).unwrap();
    let tree = Tree(BTreeMap::from([("out.txt".to_owned(), entry)]));
    let record = Record::Action(action(0, Outcome::Done(Artifact::new(&tree))));
    let other = home.open();
    store.queue(record, Some(claim)).unwrap();
    // No flush: the group is written after a moment by itself.
    let wait = |_: Option<&Holder>| ControlFlow::Continue(());
    let claim = other.claim(&key(0), wait).unwrap();
    assert!(claim.waited());
    assert!(other.lookup_fresh(&key(0)).unwrap().is_some());
}

#[test]
fn scratch_keeps_what_was_left_and_is_one_process_only() {
    let home = Home::new();
    let store = home.open();
    let scratch = store.scratch(&key(0), &origin(), never_wait).unwrap();
    std::fs::write(scratch.path().join("state"), b"step 5").unwrap();
    let busy = home
        .open()
        .scratch(&key(0), &origin(), |_| ControlFlow::Break(()));
    assert!(matches!(busy, Err(StoreError::Cancelled)));
    // The action's own claim is another.
    drop(store.claim(&key(0), never_wait).unwrap());
    drop(scratch);
    let scratch = home.open().scratch(&key(0), &origin(), never_wait).unwrap();
    assert_eq!(names_in(scratch.path()), ["state"]);
    let path = scratch.path().to_owned();
    scratch.remove().unwrap();
    assert!(!path.exists());
}

#[test]
fn threads_share_a_store() {
    let home = Home::new();
    let store = home.open();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for n in (thread..400).step_by(4) {
                    perform(store, n);
                    assert!(store.lookup(&key(n)).unwrap().is_some());
                }
            });
        }
    });
    store.flush().unwrap();
    assert_eq!(known(&home.open(), 400), 400);
}
