//! What leadership promises.

use super::child::Child;
use super::*;

pub(crate) fn one_candidate_leads_and_hands_over(fixture: &impl Fixture) {
    let role = fixture.name("role");
    let mut first = fixture.open().campaign(&role).unwrap();
    until("the first leads", || first.leads(Duration::from_secs(1)).unwrap().then_some(()));
    let mut second = fixture.open().campaign(&role).unwrap();
    assert!(!second.leads(QUIET).unwrap());
    assert!(first.leads(Duration::ZERO).unwrap());
    let mut other_role = fixture.open().campaign(&fixture.name("other")).unwrap();
    until("another role has its own leader", || {
        other_role.leads(Duration::from_secs(1)).unwrap().then_some(())
    });
    drop(first);
    until("the second leads", || second.leads(Duration::from_secs(1)).unwrap().then_some(()));
}

pub(crate) fn a_killed_leader_hands_over(fixture: &impl Fixture) {
    let role = fixture.name("role");
    let mut child = Child::spawn("leader", fixture, &[&role]);
    child.expect("leads");
    let mut candidate = fixture.open().campaign(&role).unwrap();
    assert!(!candidate.leads(QUIET).unwrap());
    child.kill();
    until("the survivor leads", || candidate.leads(Duration::from_secs(1)).unwrap().then_some(()));
}
