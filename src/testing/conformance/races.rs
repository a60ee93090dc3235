use std::sync::Arc;

use bson::RawBson;
use bson::raw::RawBsonRef;

use super::sample::{
    DATA, a_tombstone, at, change, id, integer, is, lacks, put, raw, session, set, stored, touch,
};
use super::{Failure, Kept, at_once};
use crate::document::Operator;
use crate::record::field;
use crate::store::{Document, Filter, Inserted, Store, Updated};

/// How many tasks race.
const MANY: i64 = 24;
/// How often a race is run that has one winner.
const ROUNDS: u32 = 12;

/// Of many tasks that create documents of one id at the same time, one gets [`Inserted::Stored`], and
/// its document is the one that is there.
pub async fn of_many_that_create_one_document_one_does(store: Arc<dyn Store>) -> Kept {
    for round in 0..ROUNDS {
        let created = at_once(&store, 0..MANY, |store, number| {
            let mut document = session(&id(round));
            document.insert(field::USER, number);
            let documents = vec![raw(&document), a_tombstone(round, 0)];
            async move { Ok((number, store.insert(documents, DATA).await?)) }
        })
        .await?;
        let winners = created.iter().filter(|(_, c)| *c == Inserted::Stored);
        let winners: Vec<i64> = winners.map(|(number, _)| *number).collect();
        let there = store.load(&id(round)).await?;
        let there = there.as_ref().and_then(|d| d.get(field::USER)?.as_i64());
        must!(
            winners.len() == 1 && there == Some(winners[0]),
            "{winners:?} were told that their document is stored, and there is that of {there:?}"
        );
    }
    Ok(())
}

/// An update chooses its document and changes it at one moment: of many tasks that set a value on
/// the condition that it is as they saw it, one does.
pub async fn of_many_that_compare_and_set_one_wins(store: Arc<dyn Store>) -> Kept {
    stored(&*store, 1).await?;
    let mut seen = RawBson::Int64(5);
    for round in 0..i64::from(ROUNDS) {
        let updated = at_once(&store, 0..MANY, |store, number| {
            let mine = round * 1000 + 100 + number;
            let filter = is(Filter::id(&id(1)), "number", Some(seen.clone()));
            async move {
                let updated = store.update(filter, set("number", mine), DATA).await?;
                Ok((updated == Updated::Applied).then_some(mine))
            }
        })
        .await?;
        let winners: Vec<i64> = updated.into_iter().flatten().collect();
        let there = store.load(&id(1)).await?;
        let there = there.and_then(|document| integer(&document, "number"));
        must!(
            winners.len() == 1 && there == Some(winners[0]),
            "{winners:?} were told that they won, and there is {there:?}"
        );
        seen = RawBson::Int64(winners[0]);
    }
    Ok(())
}

/// Every increment counts, however many come at once.
pub async fn no_increment_is_lost(store: Arc<dyn Store>) -> Kept {
    const EACH: i64 = 5;
    stored(&*store, 1).await?;
    at_once(&store, 0..MANY, |store, _| async move {
        for _ in 0..EACH {
            let one = change("number", Operator::Increment(1));
            store.update(Filter::id(&id(1)), one, DATA).await?;
        }
        Ok(())
    })
    .await?;
    let there = store.load(&id(1)).await?;
    let there = there.and_then(|document| integer(&document, "number"));
    let wanted = Some(5 + MANY * EACH);
    must!(there == wanted, "the sum is {there:?} and not {wanted:?}");
    Ok(())
}

/// Every element that is pushed is there once, the elements of one push side by side and in their
/// order, and the pushes of one task in theirs.
pub async fn no_push_is_lost(store: Arc<dyn Store>) -> Kept {
    const EACH: i64 = 4;
    stored(&*store, 1).await?;
    at_once(&store, 0..MANY, |store, task| async move {
        for push in 0..EACH {
            let first = task * 1000 + push * 10;
            let pair = vec![RawBson::Int64(first), RawBson::Int64(first + 1)];
            let update = change("pushed", Operator::Push(pair));
            store.update(Filter::id(&id(1)), update, DATA).await?;
        }
        Ok(())
    })
    .await?;
    let there = store.load(&id(1)).await?.map(|d| numbers(&d, "pushed"));
    let there = there.unwrap_or_default();
    let mut firsts: Vec<i64> = there.iter().copied().step_by(2).collect();
    let seconds: Vec<i64> = there.iter().copied().skip(1).step_by(2).collect();
    let are_pairs = firsts.iter().zip(&seconds).all(|(a, b)| a + 1 == *b);
    // Sorting by task alone keeps the order of each.
    firsts.sort_by_key(|first| first / 1000);
    let wanted = (0..MANY).flat_map(|task| (0..EACH).map(move |push| task * 1000 + push * 10));
    must!(
        there.len() as i64 == MANY * EACH * 2 && are_pairs && firsts.into_iter().eq(wanted),
        "of {} elements there are {}: {there:?}",
        MANY * EACH * 2,
        there.len()
    );
    Ok(())
}

fn numbers(document: &Document, name: &str) -> Vec<i64> {
    let value = document.get(field::VALUE).and_then(RawBsonRef::as_document);
    let array = value.and_then(|value| value.get_array(name).ok());
    let elements = array.into_iter().flatten().flatten();
    elements.filter_map(|element| element.as_i64()).collect()
}

/// Writes to different fields of one document, at the same time, are all kept.
pub async fn writes_to_different_fields_never_meet(store: Arc<dyn Store>) -> Kept {
    let mut document = session(&id(1));
    document.insert(field::VALUE, bson::Document::new());
    put(&*store, &document).await?;
    for round in 0..i64::from(ROUNDS) {
        at_once(&store, 0..MANY, |store, number| async move {
            let update = set(&format!("k{number}"), round);
            store.update(Filter::id(&id(1)), update, DATA).await
        })
        .await?;
        let there = store.load(&id(1)).await?;
        let lost: Vec<i64> = (0..MANY)
            .filter(|number| {
                let name = format!("k{number}");
                there.as_ref().and_then(|there| integer(there, &name)) != Some(round)
            })
            .collect();
        must!(
            lost.is_empty(),
            "of {MANY} writes to different fields, those to {lost:?} are lost"
        );
    }
    Ok(())
}

/// Of many tasks that take one document at the same time, one gets it; and of many that delete
/// one, one gets `true`.
pub async fn of_many_that_take_one_gets_the_document(store: Arc<dyn Store>) -> Kept {
    for round in 0..ROUNDS {
        stored(&*store, round).await?;
        let got = at_once(&store, 0..MANY, |store, number| async move {
            let filter = Filter::id(&id(round));
            // In some rounds all take, in others some delete.
            if round % 3 == 2 && number % 2 == 0 {
                store.delete(filter).await
            } else {
                Ok(store.take(filter).await?.is_some())
            }
        })
        .await?;
        let winners = got.into_iter().filter(|got| *got).count();
        must!(winners == 1, "{winners} got it");
        lacks(&*store, &id(round), "after it was taken").await?;
    }
    Ok(())
}

/// The document that [`take`](Store::take) gives holds every update that was applied, and no other:
/// an update comes before the end, or finds nothing.
pub async fn a_take_misses_no_applied_update(store: Arc<dyn Store>) -> Kept {
    for round in 0..ROUNDS {
        stored(&*store, round).await?;
        let results = at_once(&store, 0..MANY, |store, number| async move {
            let filter = Filter::id(&id(round));
            if number == MANY / 2 {
                return Ok((0, store.take(filter).await?));
            }
            let mut applied = 0;
            for _ in 0..4 {
                let one = change("number", Operator::Increment(1));
                let updated = store.update(filter.clone(), one, DATA).await?;
                applied += i64::from(updated == Updated::Applied);
            }
            Ok((applied, None))
        })
        .await?;
        let applied: i64 = results.iter().map(|(applied, _)| applied).sum();
        let taken = results.into_iter().find_map(|(_, taken)| taken);
        let there = taken.and_then(|document| integer(&document, "number"));
        must!(
            there == Some(5 + applied),
            "{applied} increments were applied, and what was taken went from 5 to {there:?}"
        );
    }
    Ok(())
}

/// Whatever is running when a document is deleted, updates and touches of any kind, it stays
/// deleted.
pub async fn nothing_brings_a_deleted_document_back(store: Arc<dyn Store>) -> Kept {
    for round in 0..ROUNDS {
        stored(&*store, round).await?;
        at_once(&store, 0..MANY, |store, number| async move {
            let filter = Filter::id(&id(round));
            let update = set("text", "late");
            match number % 4 {
                _ if number == MANY / 2 => drop(store.delete(filter).await?),
                1 => store.touch(touch(&id(round), at(5), at(100_000))),
                _ => drop(store.update(filter, update, DATA).await?),
            }
            Ok(())
        })
        .await?;
        store.flush().await;
        lacks(&*store, &id(round), "after a delete among other calls").await?;
    }
    Ok(())
}
