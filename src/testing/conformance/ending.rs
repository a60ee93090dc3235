use std::sync::Arc;

use bson::RawBson;

use super::sample::{
    DATA, a_tombstone, change, changes, holds, id, is, lacks, now, raw, store_ten_of_each_user,
    stored,
};
use super::{Failure, Kept, text};
use crate::document::Operator;
use crate::record::{binary, field};
use crate::store::{Filter, Step, Store};

/// [`delete`](Store::delete) deletes the document and says so, once; deleting a document that is gone
/// already is not an error. Other documents stay.
pub async fn delete_deletes_one_document_once(store: Arc<dyn Store>) -> Kept {
    stored(&*store, 1).await?;
    let other = stored(&*store, 2).await?;
    for first in [true, false, false] {
        let deleted = store.delete(Filter::id(&id(1))).await?;
        must!(deleted == first, "delete said {deleted}");
        lacks(&*store, &id(1), "after a delete").await?;
    }
    holds(&*store, &other).await
}

/// A document of which one condition does not hold is neither deleted nor taken.
pub async fn delete_asks_its_whole_filter(store: Arc<dyn Store>) -> Kept {
    let document = stored(&*store, 1).await?;
    let this = || Filter::id(&id(1));
    let refused = [
        this().equals(field::USER, RawBson::Int64(8)),
        this().equals(field::TOKEN, binary(&[8; 32])),
        this().before(field::EXPIRES, now()),
        is(this(), "number", None),
        this().except(&id(1)),
    ];
    for filter in refused {
        let deleted = store.delete(filter.clone()).await?;
        let taken = store.take(filter).await?.is_some();
        must!(
            !deleted && !taken,
            "a condition that does not hold was not asked"
        );
        holds(&*store, &document).await?;
    }
    let deleted = store
        .delete(this().equals(field::USER, RawBson::Int64(7)))
        .await?;
    must!(deleted, "nothing was deleted, though every condition holds");
    lacks(&*store, &id(1), "after a delete").await
}

/// [`take`](Store::take) gives the document with everything that was written to it until its end,
/// once.
pub async fn take_gives_the_document_as_it_was_at_its_end(store: Arc<dyn Store>) -> Kept {
    let mut last = stored(&*store, 1).await?;
    changes(&*store, 1, change("number", Operator::Increment(1))).await?;
    if let Ok(value) = last.get_document_mut(field::VALUE) {
        value.insert("number", 6_i64);
    }
    let taken = store.take(Filter::id(&id(1))).await?;
    must!(
        taken.as_ref() == Some(&raw(&last)),
        "it gave {} and not {last}",
        taken.as_ref().map_or_else(|| "nothing".into(), text)
    );
    lacks(&*store, &id(1), "after a take").await?;
    let again = store.take(Filter::id(&id(1))).await?;
    must!(again.is_none(), "a document was taken twice");
    Ok(())
}

/// [`delete_all`](Store::delete_all) deletes every document that its filter chooses, counts them,
/// and leaves the others.
pub async fn delete_all_deletes_what_its_filter_chooses_and_no_more(store: Arc<dyn Store>) -> Kept {
    store_ten_of_each_user(&*store).await?;
    store.insert(vec![a_tombstone(1, 0)], DATA).await?;
    let theirs = |user: i64| Filter::sessions().equals(field::USER, RawBson::Int64(user));
    let steps = [
        (theirs(1).except(&id(1)), 9, 22),
        (theirs(1).except(&id(1)), 0, 22),
        (theirs(1), 1, 21),
        (Filter::sessions().before(field::EXPIRES, now()), 0, 21),
        (Filter::ids(vec![id(0), id(1), id(2)]), 2, 19),
        (Filter::sessions(), 18, 1),
        (Filter::all(), 1, 0),
    ];
    for (step, (filter, some, left)) in steps.into_iter().enumerate() {
        let deleted = store.delete_all(filter).await?;
        let stay = store.count(Filter::all()).await?;
        must!(
            (deleted, stay) == (some, left),
            "delete_all number {step} deleted {deleted} of {some} and left {stay} of {left}"
        );
    }
    Ok(())
}

/// [`delete_some`](Store::delete_some) deletes as many documents as it may of those that its filter
/// chooses, and no other, says how many those were, and says of the last step alone that it is the last.
pub async fn delete_some_deletes_no_more_than_its_limit(store: Arc<dyn Store>) -> Kept {
    store_ten_of_each_user(&*store).await?;
    let theirs = || Filter::sessions().equals(field::USER, RawBson::Int64(1));
    for (some, is_last, left) in [(4, false, 26), (4, false, 22), (2, true, 20), (0, true, 20)] {
        let step = store.delete_some(theirs(), 4).await?;
        let stay = store.count(Filter::all()).await?;
        let wanted = Step {
            deleted: some,
            is_last,
        };
        must!(
            step == wanted && stay == left,
            "of at most 4 it says {step:?} and not {wanted:?}, and leaves {stay} of {left}"
        );
    }
    Ok(())
}
