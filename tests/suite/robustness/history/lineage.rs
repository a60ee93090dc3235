//! Where sessions come from and what may have ended them: who was given which token, which session
//! each began as, and what was asked of it that ends one.

use std::collections::HashMap;

use super::{Event, Told, Work, id_of};

pub(super) struct Lineage<'a> {
    /// The event that gave a token, by the cookie.
    issues: HashMap<&'a str, &'a Event>,
    /// The event that made a session, by its id.
    makers: HashMap<&'a str, &'a Event>,
    /// What ends the session that it is sent with, by that session's id.
    ends: HashMap<&'a str, Vec<&'a Event>>,
    /// Renewals and elevations, by the cookie that they replace.
    renewals: HashMap<&'a str, Vec<&'a Event>>,
    /// By the browser whose principal is meant.
    revocations: HashMap<usize, Vec<&'a Event>>,
}

impl<'a> Lineage<'a> {
    /// Of events in the order in which they began.
    pub(super) fn of(events: &'a [Event]) -> Self {
        let mut lineage = Lineage {
            issues: HashMap::new(),
            makers: HashMap::new(),
            ends: HashMap::new(),
            renewals: HashMap::new(),
            revocations: HashMap::new(),
        };
        for event in events {
            lineage.take(event);
        }
        lineage
    }

    fn take(&mut self, event: &'a Event) {
        if let Some(given) = event.given.as_deref() {
            self.issues.entry(given).or_insert(event);
            if event.work.creates() && event.asked() != Some(id_of(given)) {
                self.makers.entry(id_of(given)).or_insert(event);
            }
        }
        if event.told == Told::Gone || event.was_dropped() {
            return; // it found no session, or gave its own up, and so ended none
        }
        let cookie = event.cookie.as_deref();
        match (&event.work, cookie) {
            (Work::Revoke, _) => self
                .revocations
                .entry(event.browser)
                .or_default()
                .push(event),
            (work, Some(cookie)) if work.replaces_token() => {
                self.renewals.entry(cookie).or_default().push(event);
            }
            (work, Some(cookie)) if work.ends() => {
                self.ends.entry(id_of(cookie)).or_default().push(event);
            }
            _ => {}
        }
    }

    pub(super) fn is_issued(&self, id: &str) -> bool {
        self.makers.contains_key(id)
    }

    pub(super) fn sessions(&self) -> usize {
        self.makers.len()
    }

    /// The events that made a session and those that it goes back to, the latest first, up to the
    /// one that began with nothing.
    fn makers_of(&self, id: &str) -> impl Iterator<Item = &'a Event> {
        let first = self.makers.get(id).copied();
        // A history that goes round in circles is broken, but must not hang the one who says so.
        std::iter::successors(first, |maker| match maker.work.carries() {
            true => self.makers.get(maker.asked()?).copied(),
            false => None,
        })
        .take(1000)
    }

    /// The logins through which a session has what others held, the latest first.
    pub(super) fn forks(&self, id: &str) -> Vec<&'a Event> {
        let makers = self.makers_of(id);
        makers.take_while(|maker| maker.work.carries()).collect()
    }

    /// The mark that a session must have.
    pub(super) fn mark(&self, id: &str) -> Option<u64> {
        self.makers_of(id).find_map(|maker| maker.work.mark())
    }

    /// The mark of the sessions that an event belongs to.
    pub(super) fn line(&self, event: &Event) -> Option<u64> {
        let asked = event.asked().and_then(|id| self.mark(id));
        asked.or_else(|| event.mark())
    }

    /// The event that planted a mark.
    pub(super) fn origin(&self, mark: u64) -> Option<&'a Event> {
        let mut makers = self.makers.values();
        makers
            .find(|maker| maker.work.mark() == Some(mark))
            .copied()
    }

    /// The login that made a session; `None` of one without a user.
    pub(super) fn login(&self, id: &str) -> Option<&'a Event> {
        let login = self.makers.get(id).copied();
        login.filter(|login| matches!(login.work, Work::Login(_) | Work::Keep))
    }

    fn ends(&self, id: &str) -> &[&'a Event] {
        self.ends.get(id).map_or(&[], Vec::as_slice)
    }

    /// The revocations that may concern a session: it must have a principal.
    fn revocations(&self, id: &str) -> &[&'a Event] {
        let login = self.login(id);
        let theirs = login.and_then(|login| self.revocations.get(&login.browser));
        theirs.map_or(&[], Vec::as_slice)
    }

    /// Everything that may have ended a session.
    pub(super) fn enders(&self, id: &str) -> Vec<&'a Event> {
        let own = self.ends(id).iter().chain(self.revocations(id));
        own.copied().collect()
    }

    /// Whether a token may have been dead at a time during an event.
    pub(super) fn may_be_dead(&self, cookie: &str, during: &Event) -> bool {
        let Some(issue) = self.issues.get(cookie) else {
            return true; // no browser was given it
        };
        let in_time =
            |event: &&Event| event.invoked < during.returned && !event.is_over_before(issue);
        // One that sent no new token replaced none, unless its outcome is unknown.
        let replaces = |renewal: &&Event| renewal.given.is_some() || renewal.told == Told::Open;
        let renewals = self.renewals.get(cookie).into_iter().flatten().copied();
        let mut renewals = renewals.filter(replaces);
        renewals.any(|renewal| in_time(&renewal)) || self.enders(id_of(cookie)).iter().any(in_time)
    }

    /// Whether the token of an event may have been replaced while it ran.
    pub(super) fn is_renewed_beside(&self, event: &Event) -> bool {
        let cookie = event.cookie.as_deref();
        let renewals = cookie.and_then(|cookie| self.renewals.get(cookie));
        let mut renewals = renewals.into_iter().flatten();
        renewals.any(|renewal| renewal.overlaps(event))
    }

    /// What has surely ended a session, among the events that are asked for, and the invariant that
    /// is broken if it continues.
    pub(super) fn end_of(
        &self,
        id: &str,
        among: impl Fn(&Event) -> bool,
    ) -> Option<(&'static str, &'a Event)> {
        let is_done = |end: &&&Event| end.is_done() && end.let_in() == end.asked() && among(end);
        if let Some(end) = self.ends(id).iter().find(is_done) {
            let which = if end.work == Work::Logout { "I3" } else { "I4" };
            return Some((which, end));
        }
        let login = self.login(id);
        let is_revoked = |revocation: &&&Event| {
            let was_there = login.is_some_and(|login| login.is_over_before(revocation));
            revocation.is_done() && was_there && among(revocation)
        };
        let revocation = self.revocations(id).iter().find(is_revoked);
        revocation.map(|revocation| ("I3", *revocation))
    }

    /// The renewal that has surely replaced a token.
    pub(super) fn replaced_by(
        &self,
        cookie: &str,
        among: impl Fn(&Event) -> bool,
    ) -> Option<&'a Event> {
        let renewals = self.renewals.get(cookie).into_iter().flatten().copied();
        // Without a new token it was overtaken itself.
        let mut sure = renewals.filter(|renewal| renewal.is_done() && renewal.given.is_some());
        sure.find(|renewal| among(renewal))
    }

    /// Whether a login that kept a session's values had company in ending that session, or in
    /// replacing its token. Each login made a session, and only who ended the old one, and knew its
    /// token, carries over what was changed after its load.
    pub(super) fn has_company(&self, fork: &Event) -> bool {
        let enders = fork.asked().map(|id| self.enders(id)).unwrap_or_default();
        let cookie = fork.cookie.as_deref();
        let renewals = cookie.and_then(|cookie| self.renewals.get(cookie));
        let all = enders
            .into_iter()
            .chain(renewals.into_iter().flatten().copied());
        let mut others = all.filter(|other| !std::ptr::eq(*other, fork));
        others.any(|other| other.overlaps(fork))
    }

    /// The token with which a session was created, or elevated, the last time before this one. What
    /// was renewed since has the same `created`.
    pub(super) fn elevated_as<'b>(&self, cookie: &'b str) -> &'b str
    where
        'a: 'b,
    {
        let renewed = |cookie: &&'b str| {
            let issue = self.issues.get(*cookie)?;
            let is_renewal = issue.work == Work::Renew;
            issue.cookie.as_deref().filter(|_| is_renewal)
        };
        let chain = std::iter::successors(Some(cookie), renewed);
        chain.take(1000).last().unwrap_or(cookie)
    }

    /// Whether a revocation may have dropped a login of this browser. One that began within a second
    /// after the revocation is dropped as well: the clock of a server is compared.
    pub(super) fn may_be_revoked(&self, login: &Event) -> bool {
        const SLACK: u64 = 2_000_000;
        let revocations = self.revocations.get(&login.browser);
        revocations.into_iter().flatten().any(|revocation| {
            let is_later = revocation.invoked > login.returned;
            let is_long_ago = revocation.told != Told::Open
                && revocation.returned.saturating_add(SLACK) < login.invoked;
            !is_later && !is_long_ago
        })
    }
}
