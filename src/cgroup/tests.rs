//! Groups' directories, and who is alive to whom they belong.

use super::*;

#[test]
fn what_a_dead_host_left_is_removed_and_what_a_live_one_has_is_not() {
    let parent = tempfile::tempdir().unwrap();
    let (left, foreign) = (parent.path().join("cellblock-runs-1-1/box/run"), parent.path().join("cellblock-other"));
    fs::create_dir_all(&left).unwrap();
    fs::create_dir_all(&foreign).unwrap();
    let own = Directory::make(parent.path()).unwrap();
    remove_left_behind(parent.path());
    assert!(own.path.exists() && foreign.exists());
    // A directory that is no group is not empty to rmdir(2): only the deepest goes.
    drop(own);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
}
