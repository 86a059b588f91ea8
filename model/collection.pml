// SPDX-License-Identifier: Apache-2.0
// The protocol of docs/formats/collection.md for SPIN: sessions, collections, crashes, over a store whose put-if-absent is
// atomic and whose puts are seen at once. scripts/model runs it, model/README.md says what is left out and why.
//
// One `atomic` is one operation on the store together with what its caller does locally before the next one. Sets are bit
// masks: bit p of a pack mask is pack p, bit s of a session mask is session s. Two chunks, 0 and 1; a set of them is 0 to 3.

// Size of the world; scripts/model sets others.
#ifndef CLIENTS
#define CLIENTS 2
#endif
#ifndef SESSIONS
#define SESSIONS 2  // numbers that each client may use
#endif
#ifndef PRUNERS
#define PRUNERS 2
#endif
#ifndef RECORDS
#define RECORDS 1  // collection records that each pruner may make
#endif
#ifndef PACKS
#define PACKS 3
#endif
#ifndef CLIENT_CRASHES
#define CLIENT_CRASHES 1
#endif
#ifndef PRUNER_CRASHES
#define PRUNER_CRASHES 0
#endif
#ifndef DROPS
#define DROPS 1  // stubs that forget may put
#endif
#ifndef LIES
#define LIES 0  // puts of packs that the store confirms and loses
#endif
#ifndef NEED_0  // chunks that the snapshots of a client are made of, and the one that is there from before
#define NEED_0 1
#endif
#ifndef NEED_1
#define NEED_1 3
#endif
#ifndef NEED_2
#define NEED_2 2
#endif
#ifndef NEED_BEFORE
#define NEED_BEFORE 3
#endif

#define ALL_SESSIONS (1 + CLIENTS * SESSIONS)
#define ALL_RECORDS (PRUNERS * RECORDS)
#define NO_GEN 15
#define BIT(x) (1 << (x))
#define HAS(set, x) (((set) >> (x)) & 1)
#define NEED(c) ((c) == 0 -> NEED_0 : ((c) == 1 -> NEED_1 : NEED_2))
#define NEED_OF(s) ((s) == 0 -> NEED_BEFORE : NEED(((s) - 1) / SESSIONS))

// heads/<device>/<n>
#define NONE 0
#define HEAD 1
#define ABANDONED 2
#define REMOVED 3  // was a head, was dropped, and a record took it away

// The store.
byte packs;               // those that are there
byte has0, has1;          // those that hold chunk 0, chunk 1; of all that ever were
byte names;               // how many pack names were used so far: none comes again
byte opened, stub;        // .open, .dropped
byte gen[ALL_SESSIONS];   // .gen
byte out[ALL_SESSIONS];   // outcome
byte lists[ALL_SESSIONS]; // the packs that a head lists
byte newest;              // newest collection record; 1 to newest are there
byte condemned[ALL_RECORDS + 1], listed[ALL_RECORDS + 1], heads[ALL_RECORDS + 1];
byte done;                // .done
byte used[ALL_RECORDS + 1];

// What no machine knows: for the invariant, and for budgets.
byte known;     // packs that a standing head or a record listed at some time: what any local index may hold
byte reported;  // sessions whose snapshot was reported
byte client_crashes = CLIENT_CRASHES, pruner_crashes = PRUNER_CRASHES, lies = LIES;

hidden byte i, m, n;  // inside d_step only, set before they are read

#define HAVE(set) ((((set) & has0) != 0 -> 1 : 0) | (((set) & has1) != 0 -> 2 : 0))  // chunks in these packs
#define STANDS(s) (out[s] == HEAD)

// Condemned without `used`, by records 1 to `last`: not to be relied on.
inline get_unusable(to, last) {
  m = 0; i = 1;
  do :: i <= last -> m = m | (condemned[i] & ~used[i]); i++ :: else -> break od;
  to = m; i = 0; m = 0
}

// .done stands and does not name them.
inline get_gone(to) {
  m = 0; i = 1;
  do :: i <= newest -> m = m | (HAS(done, i) -> (condemned[i] & ~used[i]) : 0); i++ :: else -> break od;
  to = m; i = 0; m = 0
}

// Packs that a standing head, a record or a .done names: what a reader can find.
inline get_listed(to) {
  m = 0; i = 0;
  do :: i < ALL_SESSIONS -> m = m | (STANDS(i) -> lists[i] : 0); i++ :: else -> break od;
  i = 1;
  do :: i <= newest -> m = m | listed[i] | used[i]; i++ :: else -> break od;
  to = m; i = 0; m = 0
}

// Every snapshot that was reported and is not dropped stands, and can be restored: each chunk is in the store, and findable.
inline check() {
  d_step {
    get_listed(n);
    get_gone(m);
    n = n & packs & ~m;
    i = 0;
    do
    :: i < ALL_SESSIONS ->
       if
       :: HAS(reported, i) && !HAS(stub, i) ->
          assert(STANDS(i));
          assert((NEED_OF(i) & ~HAVE(packs)) == 0);
          assert((NEED_OF(i) & ~HAVE(n)) == 0)
       :: else
       fi;
       i++
    :: else -> break
    od;
    i = 0; m = 0; n = 0
  }
}

#define LEFT(g) (((condemned[g] & ~used[g] & packs) | (heads[g] & opened)) != 0)  // to be deleted

inline pick(set, to) {  // one bit, any
  if
  :: (set) & 1 -> to = 1
  :: (set) & 2 -> to = 2
  :: (set) & 4 -> to = 4
  :: (set) & 8 -> to = 8
  :: (set) & 16 -> to = 16
  :: (set) & 32 -> to = 32
  :: (set) & 64 -> to = 64
  :: (set) & 128 -> to = 128
  fi
}

inline put_pack(chunks, to) {  // a new name; a store that lies says Ok and keeps nothing
  has0 = has0 | (((chunks) & 1) -> BIT(names) : 0);
  has1 = has1 | (((chunks) & 2) -> BIT(names) : 0);
  to = BIT(names);
  names++;
  if
  :: packs = packs | to
  :: lies > 0 -> lies--
  fi
}

// A device: `Session`. A crash loses everything but the home, which has the number s and the journal `own`.
proctype Client(byte c) {
  byte s = 1 + c * SESSIONS;
  byte own;     // packs that this device stored and no head lists yet
  byte fresh;   // those of them that this run stored
  byte g, bad;  // newest record that was read; what may not be relied on
  byte x, have;
#ifdef BUG_REUSE_WITHOUT_CHECK
  bit checked;
#endif

begin:
  skip;
  atomic {
    g = 0; bad = 0; fresh = 0;
    if
    :: out[s] == HEAD -> reported = reported | BIT(s); own = 0; goto ended
    :: out[s] == ABANDONED -> goto again
    :: else
    fi
  }
open:
#if defined(BUG_GC_BEFORE_OPEN) || defined(BUG_STALE_INDEX)
  atomic { g = newest; d_step { get_unusable(bad, newest) } }
#endif
  atomic {  // 1. put .open
    if
    :: opened = opened | BIT(s)
    :: client_crashes > 0 -> client_crashes--; goto begin
    fi
  }
  atomic {  // 2. read all of gc/
    if
#if defined(BUG_STALE_INDEX)
    :: g = newest
#elif !defined(BUG_GC_BEFORE_OPEN)
    :: g = newest; d_step { get_unusable(bad, newest) }
#else
    :: skip
#endif
    :: client_crashes > 0 -> client_crashes--; goto begin
    fi;
#ifdef BUG_RELY_ON_CONDEMNED
    d_step { get_gone(bad) }
#endif
  }
  atomic {  // put .gen; an older one of this session stays
    if
    :: gen[s] == NO_GEN -> gen[s] = g
    :: gen[s] != NO_GEN
    :: client_crashes > 0 -> client_crashes--; goto begin
    fi;
    g = 0;
#ifdef BUG_REUSE_WITHOUT_CHECK
    if :: checked -> bad = 0; goto outcome :: else fi
#endif
  }
store:
  skip;
  atomic {  // 3. rely on what is there, store the rest, or more; at most one pack
    have = NEED(c) & HAVE((known | own) & ~bad);
    if
    :: have == NEED(c)
    :: names < PACKS ->
       if
       :: (have | 1) == NEED(c) -> x = 1
       :: (have | 2) == NEED(c) -> x = 2
       :: NEED(c) == 3 -> x = 3
       fi;
       put_pack(x, x);
       own = own | x; fresh = fresh | x; x = 0
    :: client_crashes > 0 -> client_crashes--; have = 0; goto begin
    :: have != NEED(c) && names == PACKS -> have = 0; goto stopped  // bound of the model: no name left
    fi;
    have = 0
  }
#if LIES > 0
  atomic {  // 4. list packs/
#ifdef BUG_VERIFY_THIS_RUN_ONLY
    x = fresh & ~packs;
#else
    x = own & ~bad & ~packs;
#endif
    if
    :: x != 0 -> own = own & ~x; fresh = fresh & ~x; x = 0; goto store
    :: x == 0
    :: client_crashes > 0 -> client_crashes--; x = 0; goto begin
    fi
  }
#endif
outcome:
  skip;
  atomic {  // 5. put the outcome
    if
    :: out[s] == NONE ->
       out[s] = HEAD; lists[s] = own & ~bad; known = known | lists[s]; reported = reported | BIT(s);
       own = 0; fresh = 0; bad = 0;
#ifdef REACH_AGAIN
       assert(!(s > 1 + c * SESSIONS && out[s - 1] == ABANDONED));
#endif
#ifdef REACH_OLD_GEN
       assert(gen[s] == newest || client_crashes == CLIENT_CRASHES);
#endif
       check();
       goto ended
    :: out[s] == ABANDONED
    :: client_crashes > 0 -> client_crashes--; goto begin
    fi
  }
again:
  skip;  // the number was given up: the next one, from 1
  atomic {
    fresh = 0; bad = 0;
#ifdef BUG_REUSE_WITHOUT_CHECK
    checked = (out[s] == ABANDONED);
#endif
    if
    :: s < (c + 1) * SESSIONS -> s++; goto begin
    :: else -> goto stopped
    fi
  }
ended:
#ifdef MORE
  atomic { if :: s < (c + 1) * SESSIONS -> s++; goto begin :: else fi }
#endif
stopped:
  atomic { own = 0; fresh = 0; bad = 0 }
}

// `prune`. A crash loses everything.
proctype Pruner() {
  byte made;                      // records so far
  byte g;                         // the record that is worked on
  byte cond, list, drop, source;  // plan: what the record will say, chunks to repack
  byte need, mine, x, y;          // mark

finish:
  skip;
  atomic {  // 1. the oldest record without .done; deletions that somebody left; or a new record
    g = 0; cond = 0; list = 0; drop = 0; source = 0; need = 0; mine = 0; x = 0; y = 0;
    d_step {
      i = 1;
      do
      :: i <= newest ->
         if
         :: !HAS(done, i) && g == 0 -> g = i
         :: HAS(done, i) && LEFT(i) && x == 0 -> x = i
         :: else
         fi;
         i++
      :: else -> break
      od;
      i = 0
    };
    if
#ifdef BUG_DONE_OUT_OF_ORDER
    :: g != 0 && g < newest && !HAS(done, newest) -> g = newest; x = 0; goto decide
#endif
    :: g != 0 -> x = 0; goto decide
    :: x != 0 -> g = x; x = 0; goto delete
    :: made < RECORDS -> g = newest  // 2. plan: any packs at all, for nothing depends on it
    :: g == 0 && x == 0 && made == RECORDS -> goto ended
    fi;
    x = 0;
    do
    :: x < names && HAS(packs, x) -> cond = cond | BIT(x); x++
    :: x < names -> x++
    :: x == names -> break
    od;
    x = 0;
    if
    :: true
    :: d_step { i = 0; do :: i < ALL_SESSIONS -> drop = drop | ((STANDS(i) && HAS(stub, i)) -> BIT(i) : 0); i++ :: else -> break od; i = 0 }
    fi;
    d_step {
      i = 0;
      do
      :: i < ALL_SESSIONS ->
         list = list | (HAS(drop, i) -> lists[i] : 0);  // what these heads list, the record takes over
         source = source | ((STANDS(i) && !HAS(stub, i)) -> NEED_OF(i) : 0);
         i++
      :: else -> break
      od;
      i = 0;
      list = list & ~cond;
      source = source & HAVE(cond & packs)
    };
#ifdef BUG_NOT_TAKEN_OVER
    list = 0;
#endif
    if
    :: cond == 0 && drop == 0 -> goto finish
    :: else
    fi;
    if
    :: source = 0; goto condemn
    :: source != 0 && names < PACKS
    fi
  }
  atomic {  // 3. put a new pack, copied from what is condemned, and see that it is there
    if
    :: names == PACKS || (source & ~HAVE(cond & packs)) != 0 -> goto finish
    :: pruner_crashes > 0 -> pruner_crashes--; goto finish
    :: names < PACKS && (source & ~HAVE(cond & packs)) == 0 ->
       put_pack(source, x);
       list = list | x;
       if
       :: (packs & x) == 0 -> goto finish
       :: else
       fi;
       x = 0; source = 0
    fi
  }
condemn:
  skip;
  atomic {  // put gc/<G+1>
    if
    :: newest != g -> goto finish
    :: newest == g ->
       newest++;
       condemned[newest] = cond; listed[newest] = list; heads[newest] = drop;
       known = known | list;
       made++;
#ifdef REACH_TWO
       assert(newest < 2 || HAS(done, newest - 1));
#endif
       goto finish
    :: pruner_crashes > 0 -> pruner_crashes--; goto finish
    fi
  }

decide:
  skip;
#ifdef BUG_DONE_BEFORE_DECIDED
  goto mark;
decide_late:
  skip;
#endif
  atomic {  // 4. list heads/; end this part, or give one up and look again
    d_step {
      i = 0; m = 0;
      do
      :: i < ALL_SESSIONS ->
#ifdef BUG_NO_GEN_IS_DECIDED
         m = m | ((HAS(opened, i) && out[i] == NONE && gen[i] != NO_GEN && gen[i] < g) -> BIT(i) : 0);
#else
         m = m | ((HAS(opened, i) && out[i] == NONE && (gen[i] == NO_GEN || gen[i] < g)) -> BIT(i) : 0);
#endif
         i++
      :: else -> break
      od;
      x = m; i = 0; m = 0
    };
    if
    :: x == 0
    :: x != 0 -> goto finish
    :: x != 0 ->
       pick(x, x);
       d_step {
         i = 0;
         do :: !HAS(x, i) -> i++ :: else -> break od;
         out[i] = ABANDONED; x = 0; i = 0
       };
#ifdef BUG_DONE_BEFORE_DECIDED
       goto decide_late
#else
       goto decide
#endif
    fi
  }
#ifdef BUG_DONE_BEFORE_DECIDED
  goto put_done;
#endif

mark:
  skip;
  atomic {  // 5. list heads/ again
    if
    :: d_step {
         i = 0; x = 0;
         do :: i < g -> i++; x = x | heads[i] :: else -> break od;  // of this record and of older ones
#ifdef BUG_REMOVED_HEADS_COUNT
         x = heads[g];
#endif
         i = 0;
         do :: i < ALL_SESSIONS -> need = need | ((STANDS(i) && !HAS(x, i)) -> NEED_OF(i) : 0); i++ :: else -> break od;
         i = 0; x = 0
       }
    :: pruner_crashes > 0 -> pruner_crashes--; goto finish
    fi
  }
  atomic {  // list packs/; what is used, and has no copy elsewhere
    d_step {
      get_unusable(y, g - 1);
      get_listed(x);
#ifdef BUG_COPIES_TWICE
      y = 0;
#endif
      x = x & packs & ~condemned[g] & ~y;
      need = need & ~HAVE(x);
      get_gone(y);
#ifdef BUG_USED_GONE
      y = 0;
#endif
      x = condemned[g] & packs & ~y;
      y = 0
    };
    if
    :: (need & ~HAVE(x)) != 0 -> assert(HAS(done, g)); goto finish  // nowhere: another pruner was first, or a loss
    :: else
    fi;
    if
    :: (need & 1) -> pick(x & has0, y); mine = y; need = need & ~HAVE(y)
    :: else
    fi;
    if
    :: (need & 2) -> pick(x & has1, y); mine = mine | y
    :: else
    fi;
    need = 0; x = 0; y = 0
  }
#ifdef BUG_DONE_BEFORE_DECIDED
  goto decide_late;
put_done:
#endif
#ifdef BUG_DELETE_BEFORE_DONE
  do
  :: (condemned[g] & ~mine & packs) != 0 -> atomic { pick(condemned[g] & ~mine & packs, x); packs = packs & ~x; x = 0; check() }
  :: else -> break
  od;
#endif
  atomic {  // 6. put gc/<G>.done; the first one binds
    if
#ifdef BUG_SECOND_DONE
    :: true ->
#else
    :: !HAS(done, g) ->
#endif
       done = done | BIT(g); used[g] = mine; known = known | mine;
#ifdef REACH_USED
       assert(mine == 0);
#endif
    :: HAS(done, g) ->
#ifdef REACH_OTHER_DONE
       assert(mine == used[g]);
#endif
    :: pruner_crashes > 0 -> pruner_crashes--; goto finish
    fi;
    mine = 0
  }
delete:
  skip;
  atomic {
    x = condemned[g] & ~used[g] & packs;
    d_step {
      i = 0;
      do :: i < ALL_SESSIONS -> y = y | ((HAS(heads[g], i) && STANDS(i)) -> BIT(i) : 0); i++ :: else -> break od;
      i = 0
    };
    if
    :: x != 0 -> pick(x, x); packs = packs & ~x
    :: x == 0 && y != 0 ->
       pick(y, y);
       d_step {
         i = 0;
         do :: !HAS(y, i) -> i++ :: else -> break od;
         assert(HAS(stub, i));
         out[i] = REMOVED; lists[i] = 0; i = 0
       }
    :: x == 0 && y == 0 ->
       d_step {
         i = 0;
         do :: i < ALL_SESSIONS -> gen[i] = (HAS(heads[g], i) -> NO_GEN : gen[i]); i++ :: else -> break od;
         opened = opened & ~heads[g]; i = 0
       };
       goto finish
    :: pruner_crashes > 0 -> pruner_crashes--; goto finish
    fi;
#ifdef REACH_DELETE
    assert(x == 0);
#endif
#ifdef REACH_REMOVED
    assert(x != 0);
#endif
#ifdef REACH_REPACKED
    assert((HAVE(x) & HAVE(listed[g] & packs)) == 0);
#endif
    x = 0; y = 0;
    check();
    goto delete
  }
ended:
  skip
}

// `forget`: a stub on any head whose device knows that it stands (the newest of a device is never dropped).
proctype Forget() {
  byte left = DROPS;
  byte s;
end:
  do
  :: atomic {
       left > 0 ->
       s = 0;
       do :: s < ALL_SESSIONS - 1 -> s++ :: break od;
       if
       :: HAS(reported, s) && STANDS(s) && !HAS(stub, s) -> stub = stub | BIT(s); left--
       :: else
       fi;
       s = 0
     }
  :: left == 0 -> break
  od
}

init {
  atomic {
    i = 0;
    do :: i < ALL_SESSIONS -> gen[i] = NO_GEN; i++ :: else -> break od;
    // A snapshot of before, of a device that is not seen again: pack 0 has both chunks, pack 1 (with TWICE) chunk 0 once more.
    opened = 1; gen[0] = 0; out[0] = HEAD; reported = 1;
    packs = 1; has0 = 1; has1 = 1; names = 1;
#ifdef TWICE
    packs = 3; has0 = 3; names = 2;
#endif
    lists[0] = packs; known = packs;
    i = 0;
    do :: i < CLIENTS -> run Client(i); i++ :: else -> break od;
    i = 0;
    do :: i < PRUNERS -> run Pruner(); i++ :: else -> break od;
    i = 0;
    run Forget()
  }
}
