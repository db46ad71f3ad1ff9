//! Who is waited for, and for how long.

use super::*;
use proptest::prelude::*;

#[test]
fn it_is_complete_when_all_are_back_who_were_answered() {
    let (crowd, a, b) = (Crowd::default(), Guest::default(), Guest::default());
    crowd.goes(&a);
    crowd.goes(&b);
    crowd.comes(&a);
    assert!(!crowd.is_complete());
    crowd.comes(&b);
    assert!(crowd.is_complete());
}

#[test]
fn one_who_stays_away_is_waited_for_no_longer_than_an_interval() {
    let (crowd, late, early) = (Crowd::default(), Guest::default(), Guest::default());
    crowd.goes(&late);
    assert!(!crowd.is_complete());
    crowd.waits_no_longer();
    assert!(crowd.is_complete());
    crowd.goes(&early);
    crowd.comes(&late);
    assert!(!crowd.is_complete(), "who comes late takes nothing from those who were answered since");
    crowd.comes(&early);
    assert!(crowd.is_complete());
}

#[test]
fn those_with_several_requests_at_a_time_may_send_another() {
    let crowd = Crowd::default();
    crowd.other_comes();
    assert!(!crowd.is_complete());
    crowd.waits_no_longer();
    assert!(crowd.is_complete());
}

proptest! {
    /// Beside the plain rule: nobody is away who was answered since the last interval.
    #[test]
    fn it_knows_who_is_away(steps in prop::collection::vec(0..6usize, 0..200)) {
        let (crowd, guests): (Crowd, [Guest; 5]) = Default::default();
        let (mut answered, mut interval) = ([None; 5], 0);
        for step in steps {
            match guests.get(step) {
                None => {
                    crowd.waits_no_longer();
                    interval += 1;
                }
                Some(guest) if answered[step].take().is_some() => crowd.comes(guest),
                Some(guest) => {
                    crowd.goes(guest);
                    answered[step] = Some(interval);
                }
            }
            prop_assert_eq!(crowd.is_complete(), !answered.contains(&Some(interval)));
        }
    }
}
