//! Histories made by hand: each rule broken in the smallest way, and what comes close and is right.

use std::time::Duration;

use super::{
    Acknowledge, Answer, Begun, Fates, Findings, Handed, Judge, Post, Rule, Take, Text, Tolerance,
};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[derive(Clone)]
enum Call {
    Post(Post, Answer<u128>),
    Take(Take, Answer<Vec<Handed>>),
    Acknowledge(u32, Answer<()>),
}

enum Open {
    Post(Begun<Post>),
    Take(Begun<Take>),
    Acknowledge(Begun<Acknowledge>),
}

/// Calls with their begin and end in milliseconds, in any order.
#[derive(Default, Clone)]
struct History(Vec<(u64, u64, Call)>);

fn id(message: u32) -> u128 {
    u128::from(message) + 1_000
}

fn handed(message: u32) -> Handed {
    Handed { id: id(message), text: Text::Whole(message) }
}

fn take(user: u32) -> Take {
    Take { user, ..Take::default() }
}

fn lent(user: u32, seconds: u64) -> Take {
    Take { lease: Some(Duration::from_secs(seconds)), ..take(user) }
}

fn wait(seconds: u64) -> Take {
    Take { wait: Some(Duration::from_secs(seconds)), ..take(0) }
}

impl History {
    fn call(mut self, begin: u64, end: u64, call: Call) -> Self {
        self.0.push((begin, end, call));
        self
    }

    fn post_answered(
        self,
        (begin, end): (u64, u64),
        message: u32,
        seconds: u64,
        answer: Answer<u128>,
    ) -> Self {
        let timeout = Duration::from_secs(seconds);
        let post = Post { message, user: 0, timeout, conflicts_with: None };
        self.call(begin, end, Call::Post(post, answer))
    }

    /// To user 0, for a minute.
    fn post(self, begin: u64, end: u64, message: u32) -> Self {
        self.post_answered((begin, end), message, 60, Answer::Done(id(message)))
    }

    fn take(self, begin: u64, end: u64, take: Take, messages: &[u32]) -> Self {
        let messages = messages.iter().map(|&message| handed(message)).collect();
        self.call(begin, end, Call::Take(take, Answer::Done(messages)))
    }

    fn unanswered(self, begin: u64, end: u64, take: Take) -> Self {
        self.call(begin, end, Call::Take(take, Answer::Missing))
    }

    fn acknowledge(self, begin: u64, end: u64, message: u32, answer: Answer<()>) -> Self {
        self.call(begin, end, Call::Acknowledge(message, answer))
    }

    fn judged(&self) -> Findings {
        self.judged_of(false)
    }

    /// Plays the calls in the order of their times, and closes the history long after.
    fn judged_of(&self, replicas: bool) -> Findings {
        let tolerance = Tolerance { clock: ms(10), unanswered: ms(100), late: ms(1_000), replicas };
        let mut judge = Judge::new(vec!["ann".to_owned(), "bob".to_owned()], tolerance);
        let ends = self.0.iter().enumerate().map(|(call, &(_, end, _))| (end, 1, call));
        let begins = self.0.iter().enumerate().map(|(call, &(begin, ..))| (begin, 0, call));
        let mut moments: Vec<(u64, u8, usize)> = begins.chain(ends).collect();
        moments.sort_unstable();
        let mut open: Vec<Option<Open>> = self.0.iter().map(|_| None).collect();
        for (at, kind, place) in moments {
            let (call, now, lane) = (self.0[place].2.clone(), ms(at), 0);
            if kind == 0 {
                open[place] =
                    Some(match call {
                        Call::Post(post, _) => Open::Post(judge.begin_post(lane, post, now)),
                        Call::Take(take, _) => Open::Take(judge.begin_take(lane, take, now)),
                        Call::Acknowledge(message, _) => Open::Acknowledge(
                            judge.begin_acknowledge(lane, Acknowledge { message }, now),
                        ),
                    });
                continue;
            }
            match (open[place].take().unwrap(), call) {
                (Open::Post(begun), Call::Post(_, answer)) => judge.end_post(begun, &answer, now),
                (Open::Take(begun), Call::Take(_, answer)) => judge.end_take(begun, &answer, now),
                (Open::Acknowledge(begun), Call::Acknowledge(_, answer)) => {
                    judge.end_acknowledge(begun, &answer, now);
                }
                _ => unreachable!("a call ends as it began"),
            }
        }
        judge.close(ms(10_000))
    }

    /// It breaks this rule, once, and so many calls show it.
    fn breaks(&self, rule: Rule, calls: usize) {
        let found = self.judged();
        let counts: Vec<(Rule, u64)> = found.breaches.counts().collect();
        assert_eq!(counts, [(rule, 1)], "{:?}", found.breaches);
        let shortest = &found.breaches.shortest()[0];
        assert_eq!((shortest.rule(), shortest.calls()), (rule, calls), "{shortest}");
    }

    fn is_right(&self) -> Fates {
        let found = self.judged();
        assert_eq!(found.breaches.total(), 0, "{:?}", found.breaches);
        found.fates
    }
}

fn history() -> History {
    History::default()
}

#[test]
fn messages_that_are_taken_once_in_their_order_are_right() {
    let history = history().post(0, 10, 1).post(20, 30, 2).take(40, 50, take(0), &[1, 2]);
    let fates = history.take(60, 70, take(0), &[]).is_right();
    assert_eq!(fates, Fates { handed_out: 2, ..Fates::default() });
}

#[test]
fn a_message_handed_out_twice_is_shown_with_three_calls() {
    let history = history().post(0, 10, 1).take(20, 30, take(0), &[1]);
    history.clone().take(40, 50, take(0), &[1]).breaks(Rule::HandedTwice, 3);
    history.clone().take(25, 50, take(0), &[1]).breaks(Rule::HandedTwice, 3);
    history.take(40, 50, lent(0, 1), &[1]).breaks(Rule::HandedTwice, 3);
}

#[test]
fn a_take_that_shows_a_message_shows_all_that_were_acknowledged_before_its_post() {
    // The first was acknowledged while the take was under way, but before the second was posted.
    let history = history().post(0, 20, 1).take(10, 50, take(0), &[2]);
    let missed = history.clone().post(30, 40, 2).take(60, 70, take(0), &[1]);
    missed.breaks(Rule::Missed, 3);
    // Posts that overlap may come in either order.
    let fates = history.post(15, 40, 2).take(60, 70, take(0), &[1]).is_right();
    assert_eq!(fates, Fates { handed_out: 2, ..Fates::default() });
}

#[test]
fn a_take_after_a_take_shows_nothing_that_the_first_must_have_shown() {
    let history = history().post(0, 10, 1).take(20, 30, take(0), &[]);
    history.clone().take(40, 50, take(0), &[1]).breaks(Rule::Missed, 3);
    // Takes that overlap may come in either order.
    history.take(25, 50, take(0), &[1]).is_right();
}

#[test]
fn a_call_that_is_late_may_have_an_effect_for_longer_than_one_whose_connection_broke() {
    let history = |answer: Answer<Vec<Handed>>| {
        let taking = history().call(0, 10, Call::Take(take(0), answer));
        taking.post(500, 510, 1).take(520, 530, take(0), &[]).take(3_000, 3_010, take(0), &[])
    };
    history(Answer::Missing).breaks(Rule::Lost, 2);
    let fates = history(Answer::Late).is_right();
    assert_eq!(fates, Fates { doubtful: 1, ..Fates::default() });
}

#[test]
fn a_message_twice_in_one_answer_is_handed_out_twice() {
    history().post(0, 10, 1).take(20, 30, take(0), &[1, 1]).breaks(Rule::HandedTwice, 3);
}

#[test]
fn a_history_reads_as_it_happened() {
    let history = history().post(0, 10, 1).take(20, 30, take(0), &[1]);
    let limited = Take { limit: Some(5), wait: Some(ms(1_000)), ..take(0) };
    let found = history.take(40, 50, limited, &[1]).judged();
    let expected = "handed out twice: message 1 to user \"ann\"\n       \
         0.000000 s to    0.010000 s  lane 0: POST timeout 60 s -> 201\n       \
         0.020000 s to    0.030000 s  lane 0: GET -> 1 message\n       \
         0.040000 s to    0.050000 s  lane 0: GET ?limit=5&wait=1 -> 1 message";
    assert_eq!(found.breaches.shortest()[0].to_string(), expected);
}

#[test]
fn the_shortest_history_comes_first() {
    let history = history().post(0, 10, 1).take(20, 30, take(0), &[1]).take(40, 50, take(0), &[1]);
    let found = history.take(60, 70, take(1), &[9]).judged();
    let rules: Vec<Rule> = found.breaches.shortest().iter().map(super::Breach::rule).collect();
    assert_eq!(rules, [Rule::NeverPosted, Rule::HandedTwice]);
}

#[test]
fn a_message_that_is_lent_must_not_be_handed_out_until_the_lease_is_over() {
    let history = history().post(0, 10, 1).take(20, 30, lent(0, 1), &[1]);
    history.clone().take(900, 1_005, take(0), &[1]).breaks(Rule::WithinLease, 3);
    history.clone().take(900, 1_005, lent(0, 1), &[1]).breaks(Rule::WithinLease, 3);
    let fates = history.take(900, 1_010, take(0), &[1]).is_right();
    assert_eq!(fates, Fates { handed_out: 1, ..Fates::default() });
}

#[test]
fn a_message_that_was_acknowledged_must_not_come_back() {
    let history = history().post(0, 10, 1).take(20, 30, lent(0, 1), &[1]);
    let history = history.acknowledge(40, 50, 1, Answer::Done(()));
    history.clone().take(2_000, 2_010, take(0), &[1]).breaks(Rule::AfterAcknowledge, 3);
    let fates = history.take(2_000, 2_010, take(0), &[]).is_right();
    assert_eq!(fates, Fates { acknowledged: 1, ..Fates::default() });
}

#[test]
fn an_acknowledgement_in_time_must_be_accepted() {
    let history = history().post(0, 10, 1).take(20, 30, lent(0, 1), &[1]);
    let refused = |begin, end| history.clone().acknowledge(begin, end, 1, Answer::Refused(404));
    refused(40, 1_000).take(3_000, 3_010, take(0), &[1]).breaks(Rule::AcknowledgeRefused, 3);
    refused(40, 1_015).take(3_000, 3_010, take(0), &[1]).is_right();
    // A server that starts cannot do it yet.
    let starting = history.clone().acknowledge(40, 1_000, 1, Answer::Refused(503));
    starting.take(3_000, 3_010, take(0), &[1]).is_right();
    // Somebody else may have been first.
    let both = refused(40, 50).acknowledge(35, 60, 1, Answer::Done(()));
    both.is_right();
}

#[test]
fn a_message_that_has_expired_must_not_be_handed_out() {
    let history = history().post_answered((0, 10), 1, 1, Answer::Done(id(1)));
    history.clone().take(1_021, 1_030, take(0), &[1]).breaks(Rule::AfterExpiry, 2);
    history.clone().take(1_020, 1_030, take(0), &[1]).is_right();
    let lent_before = history.clone().take(20, 30, lent(0, 1), &[1]);
    lent_before.take(1_100, 1_110, take(0), &[1]).breaks(Rule::AfterExpiry, 2);
    let fates = history.take(1_100, 1_110, take(0), &[]).is_right();
    assert_eq!(fates, Fates { expired: 1, ..Fates::default() });
}

#[test]
fn a_message_must_not_reach_another_user() {
    history().post(0, 10, 1).take(20, 30, take(1), &[1]).breaks(Rule::WrongUser, 2);
}

#[test]
fn another_text_or_id_than_was_posted_is_caught() {
    let posted = history().post(0, 10, 1);
    let shown = |text, id| Call::Take(take(0), Answer::Done(vec![Handed { id, text }]));
    let altered = posted.clone().call(20, 30, shown(Text::Altered(1), id(1)));
    altered.breaks(Rule::Altered, 2);
    posted.clone().call(20, 30, shown(Text::Whole(1), 7)).breaks(Rule::Altered, 2);
    // The take may come before the answer to the post.
    let early = history().post(0, 40, 1).call(20, 30, shown(Text::Whole(1), 7));
    early.breaks(Rule::Altered, 2);
    history().post(0, 40, 1).take(20, 30, take(0), &[1]).is_right();
}

#[test]
fn what_nobody_posted_is_caught() {
    let strange = Handed { id: 1, text: Text::Strange("hello".to_owned()) };
    let strange = Call::Take(take(0), Answer::Done(vec![strange]));
    history().call(0, 10, strange).breaks(Rule::NeverPosted, 1);
    history().take(0, 10, take(0), &[3]).breaks(Rule::NeverPosted, 1);
    let refused = history().post_answered((0, 10), 1, 60, Answer::Refused(429));
    refused.clone().take(20, 30, take(0), &[1]).breaks(Rule::NeverPosted, 2);
    let fates = refused.take(20, 30, take(0), &[]).is_right();
    assert_eq!(fates, Fates { never_posted: 1, ..Fates::default() });
}

#[test]
fn a_message_that_nobody_gets_is_lost() {
    let lost = history().post(0, 10, 1).take(20, 30, take(0), &[]);
    lost.breaks(Rule::Lost, 2);
    assert_eq!(lost.judged().fates, Fates { lost: 1, ..Fates::default() });
    // While its post is under way it may come after the take, and without one it is only unread.
    let overlapping = history().post(0, 20, 1).take(20, 30, take(0), &[]);
    assert_eq!(overlapping.is_right(), Fates { unread: 1, ..Fates::default() });
}

#[test]
fn a_message_whose_lease_is_over_must_come_back() {
    let history = history().post(0, 10, 1).take(20, 30, lent(0, 1), &[1]);
    history.clone().take(1_040, 1_050, take(0), &[]).is_right();
    history.take(1_041, 1_050, take(0), &[]).breaks(Rule::Lost, 3);
}

#[test]
fn a_take_must_not_miss_what_was_there() {
    let history = history().post(0, 10, 1).take(40, 50, take(0), &[1]);
    history.clone().take(20, 30, take(0), &[]).breaks(Rule::Missed, 3);
    let limited = Take { limit: Some(1), ..take(0) };
    history.clone().take(20, 30, limited, &[]).breaks(Rule::Missed, 3);
    let peek = Take { peek: true, ..take(0) };
    history.clone().take(20, 30, peek, &[]).breaks(Rule::Missed, 3);
    // Beside another take it may come second.
    history.take(35, 45, take(0), &[]).is_right();
}

#[test]
fn a_take_may_come_second_to_one_that_ends_much_later() {
    let history = history().post(0, 10, 1).take(20, 500, take(0), &[1]);
    history.take(30, 40, take(0), &[]).take(50, 60, take(0), &[]).is_right();
}

#[test]
fn within_an_answer_the_oldest_comes_first() {
    let history = history().post(0, 10, 1);
    history.clone().post(11, 20, 2).take(30, 40, take(0), &[2, 1]).breaks(Rule::OutOfOrder, 3);
    history.post(10, 20, 2).take(30, 40, take(0), &[2, 1]).is_right();
}

#[test]
fn a_limit_must_not_leave_an_older_message_behind() {
    let history = history().post(0, 10, 1).post(11, 20, 2);
    let limited = Take { limit: Some(1), ..take(0) };
    let history = history.take(60, 70, take(0), &[1]);
    history.clone().take(30, 40, limited.clone(), &[2]).breaks(Rule::OutOfOrder, 3);
    // It was there no more.
    history.take(65, 75, limited, &[2]).is_right();
}

#[test]
fn a_limit_is_a_limit() {
    let limited = Take { limit: Some(1), ..take(0) };
    let history = history().post(0, 10, 1).post(11, 20, 2);
    history.take(30, 40, limited, &[1, 2]).breaks(Rule::OverLimit, 1);
}

#[test]
fn a_long_poll_that_finds_nothing_lasts_its_time() {
    history().take(0, 980, wait(1), &[]).breaks(Rule::ReturnedEarly, 1);
    history().take(0, 995, wait(1), &[]).is_right();
}

#[test]
fn a_long_poll_must_notice_what_comes_while_it_waits() {
    let history = history().take(0, 1_005, wait(1), &[]);
    history.clone().post(900, 980, 1).breaks(Rule::Lost, 2);
    history.post(900, 995, 1).is_right();
}

#[test]
fn a_look_that_waits_at_one_server_need_not_notice_what_another_takes_meanwhile() {
    let peek = Take { peek: true, ..wait(1) };
    let after = |posted: u64| {
        let history = history().post(posted, posted + 10, 1);
        history.take(100, 1_105, peek.clone(), &[]).take(2_000, 2_010, take(0), &[1])
    };
    for (posted, replicas, breaches) in
        [(50, false, 1), (50, true, 1), (500, false, 1), (500, true, 0)]
    {
        assert_eq!(
            after(posted).judged_of(replicas).breaches.total(),
            breaches,
            "{posted} {replicas}"
        );
    }
}

#[test]
fn a_look_hands_out_nothing_and_shows_nothing_that_is_gone() {
    let peek = Take { peek: true, ..take(0) };
    let history = history().post(0, 10, 1).take(20, 30, peek.clone(), &[1]);
    let history = history.take(40, 50, take(0), &[1]);
    history.is_right();
    history.clone().take(45, 60, peek.clone(), &[1]).is_right();
    history.take(60, 70, peek, &[1]).breaks(Rule::HandedTwice, 3);
}

#[test]
fn a_key_gives_the_same_id_again() {
    let history = history().post(0, 10, 1).post(5, 20, 1);
    history.clone().take(30, 40, take(0), &[1]).is_right();
    let other = history.post_answered((20, 30), 1, 60, Answer::Done(7));
    other.take(40, 50, take(0), &[1]).breaks(Rule::Key, 1);
}

#[test]
fn a_key_takes_no_other_content() {
    let conflict =
        Post { message: 2, user: 0, timeout: Duration::from_secs(60), conflicts_with: Some(1) };
    let posted = history().post(0, 10, 1);
    let taken = Call::Post(conflict.clone(), Answer::Done(id(2)));
    let taken = posted.clone().call(20, 30, taken).take(40, 50, take(0), &[1, 2]);
    taken.breaks(Rule::Key, 2);
    let refused = Call::Post(conflict, Answer::Refused(422));
    posted.call(20, 30, refused).take(40, 50, take(0), &[1]).is_right();
}

#[test]
fn a_take_without_an_answer_may_have_taken_what_was_there() {
    let history = history().post(0, 10, 1).unanswered(20, 30, take(0));
    let fates = history.clone().take(40, 50, take(0), &[]).is_right();
    assert_eq!(fates, Fates { doubtful: 1, ..Fates::default() });
    let fates = history.clone().take(40, 50, take(0), &[1]).is_right();
    assert_eq!(fates, Fates { handed_out: 1, ..Fates::default() });
    // But not what came later, and nothing twice.
    let later = history.clone().post(131, 140, 2).take(150, 160, take(0), &[]);
    later.breaks(Rule::Lost, 2);
    let twice = history.take(40, 50, take(0), &[1]).take(60, 70, take(0), &[1]);
    twice.breaks(Rule::HandedTwice, 3);
}

#[test]
fn a_lease_without_an_answer_runs_out() {
    let history = history().post(0, 10, 1).unanswered(20, 30, lent(0, 1));
    history.clone().take(1_140, 1_150, take(0), &[]).is_right();
    history.take(1_141, 1_150, take(0), &[]).breaks(Rule::Lost, 2);
}

#[test]
fn a_post_without_an_answer_may_be_there_or_not() {
    let history = history().post_answered((0, 10), 1, 1, Answer::Missing);
    let fates = history.clone().take(40, 50, take(0), &[]).is_right();
    assert_eq!(fates, Fates { never_posted: 1, ..Fates::default() });
    history.clone().take(40, 50, take(0), &[1]).is_right();
    history.clone().take(1_120, 1_130, take(0), &[1]).is_right();
    history.take(1_121, 1_130, take(0), &[1]).breaks(Rule::AfterExpiry, 2);
}

#[test]
fn an_acknowledgement_without_an_answer_may_have_been_accepted() {
    let history = history().post(0, 10, 1).take(20, 30, lent(0, 1), &[1]);
    let history = history.acknowledge(40, 50, 1, Answer::Missing);
    let fates = history.clone().take(2_000, 2_010, take(0), &[]).is_right();
    assert_eq!(fates, Fates { doubtful: 1, ..Fates::default() });
    history.take(2_000, 2_010, take(0), &[1]).is_right();
}

#[test]
fn a_message_that_was_closed_long_ago_is_still_not_handed_out_again() {
    let mut judge = Judge::new(vec!["ann".to_owned()], Tolerance::default());
    let closed = u32::try_from(super::CLOSED_KEPT_MAX).unwrap() + 2;
    let shows = |judge: &mut Judge, message: u32, at: Duration| {
        let begun = judge.begin_take(0, take(0), at);
        judge.end_take(begun, &Answer::Done(vec![handed(message)]), at + ms(1));
    };
    let mut now = Duration::ZERO;
    for message in 0..closed {
        let timeout = Duration::from_secs(3_600);
        let post = Post { message, user: 0, timeout, conflicts_with: None };
        let begun = judge.begin_post(0, post, now);
        judge.end_post(begun, &Answer::Done(id(message)), now + ms(1));
        shows(&mut judge, message, now + ms(2));
        now += ms(4);
    }
    assert_eq!(judge.breaches().total(), 0);
    shows(&mut judge, 0, now);
    shows(&mut judge, closed - 1, now + ms(2));
    let found = judge.close(now + ms(4));
    let calls: Vec<usize> = found.breaches.shortest().iter().map(super::Breach::calls).collect();
    assert_eq!(calls, [1, 3]);
    assert!(found.breaches.counts().eq([(Rule::HandedTwice, 2)]));
}
