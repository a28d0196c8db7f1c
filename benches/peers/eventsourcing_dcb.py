"""The DCB recorder for PostgreSQL of the Python library eventsourcing, through its own API, with a thread for each writer.

It does what the driver in benches/compare/peers/driver does for the programs in Rust, in the same lines of JSON. The schema is the
first one of the search path, which comes in the URL as for everybody else.
"""

import json
import os
import sys
import threading
import time
import traceback
import uuid
import zlib
from urllib.parse import parse_qs, urlsplit

from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBQuery, DCBQueryItem
from eventsourcing.dcb.postgres_tt import PostgresDCBRecorderTT
from eventsourcing.persistence import IntegrityError
from eventsourcing.postgres import PostgresDatastore


class Peer:
    def __init__(self, opening):
        self.url = urlsplit(opening["url"])
        options = parse_qs(self.url.query)["options"][0]
        # libpq takes it from here: the datastore has no parameter for it.
        os.environ["PGOPTIONS"] = options
        self.schema = options.split("search_path=")[1].split()[0]
        self.row = None
        self.recorder = None
        self.members = []
        self.place = None
        self.number = 0

    def connect(self, connections):
        datastore = PostgresDatastore(
            self.url.path.lstrip("/"),
            self.url.hostname,
            self.url.port,
            self.url.username,
            self.url.password or "",
            pool_size=connections,
            connect_timeout=30.0,
            schema=self.schema,
        )
        recorder = PostgresDCBRecorderTT(datastore)
        # All connections at once: they are not part of what is measured.
        datastore.pool.open(wait=True, timeout=30.0)
        return recorder

    def with_one(self, use):
        recorder = self.connect(1)
        try:
            return use(recorder)
        finally:
            recorder.datastore.close()

    def prepare(self, _):
        self.with_one(lambda recorder: recorder.create_table())

    def look(self, books):
        def use(recorder):
            everything = list(recorder.read())
            self.place = everything[-1].position if everything else None
            some = [found for book in books for found in recorder.read(boundary(book))]
            return digest(everything), digest(some)

        return self.with_one(use)

    def begin(self, row):
        self.row = row
        self.recorder = self.connect(row["writers"])
        self.members = [Member(self.recorder, writer, self.number, row) for writer in range(row["writers"])]

    def run(self, millis):
        if self.row["kind"] == "CatchUp":
            start = time.perf_counter()
            done = sum(1 for _ in self.recorder.read())
            return ran(done, time.perf_counter() - start)
        start = time.perf_counter()
        until = start + millis / 1000
        threads = [threading.Thread(target=member.work, args=(until,)) for member in self.members]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        elapsed = time.perf_counter() - start
        answer = ran(0, elapsed)
        for member in self.members:
            if member.failure is not None:
                raise member.failure
            answer["done"] += member.done
            answer["conflicts"] += member.conflicts
            answer["latencies"] += member.latencies
            answer["acknowledged"] += member.acknowledged
            self.number = max(self.number, member.number)
        return answer

    def end(self, _):
        self.recorder.datastore.close()
        self.recorder, self.members = None, []

        def use(recorder):
            written = []
            for found in recorder.read(after=self.place):
                payload = json.loads(found.event.data)
                made = payload["Made"]
                fields = {name.lower(): made[name] for name in ("Writer", "Number", "Part", "Seen")}
                written.append({"book": payload["BookID"], **fields})
                self.place = found.position
            return written

        return self.with_one(use)


class Member:
    def __init__(self, recorder, writer, number, row):
        self.recorder = recorder
        self.writer = writer
        self.number = number
        self.row = row
        self.next_book = 0
        self.known = None
        self.seen = 0

    def work(self, until):
        self.done, self.conflicts, self.latencies, self.acknowledged, self.failure = 0, 0, [], [], None
        try:
            before = time.perf_counter()
            while before < until:
                self.step()
                after = time.perf_counter()
                self.done += 1
                self.latencies.append(int((after - before) * 1_000_000))
                before = after
        except Exception as error:  # told by the thread that waits
            self.failure = error

    def step(self):
        kind = self.row["kind"]
        if kind == "Query":
            book = self.row["books"][self.next_book % len(self.row["books"])]
            self.next_book += 1
            if not list(self.recorder.read(boundary(book))):
                raise RuntimeError(f"no event of {book}")
            return
        self.number += 1
        if kind == "Append":
            book = str(uuid.uuid4())
            while not self.append(book, None, 0):
                self.conflicts += 1
        else:
            book = str(uuid.uuid5(uuid.NAMESPACE_OID, str(self.row["number"])))
            while True:
                response = self.recorder.read(boundary(book), after=self.known)
                self.seen += sum(1 for _ in response)
                self.known = response.head
                if self.append(book, self.known if self.seen else None, self.seen):
                    break
                self.conflicts += 1
        self.acknowledged.append((self.writer, self.number))

    def append(self, book, known, seen):
        events = [self.draft(book, part, seen) for part in range(self.row["events"])]
        try:
            self.recorder.append(events, DCBAppendCondition(boundary(book), after=known))
            return True
        except IntegrityError:
            return False

    def draft(self, book, part, seen):
        lent = (self.number + part) % 2 == 0
        payload = {
            "BookID": book,
            "ReaderID": f"{self.writer:08x}-0000-4000-8000-{self.number:012x}",
            "ISBN": f"978-{self.number:010}",
            "Title": "The Garden of the Mountain and the River",
            "Authors": "E. Fairweather, T. Nakamura",
            "Publisher": "Lantern & Voyage Press",
            "Edition": f"Revised edition no. {1 + part}",
            "PublicationYear": 1987,
            "Made": {"Writer": self.writer, "Number": self.number, "Part": part, "Seen": seen},
        }
        event_type = "BookCopyLentToReader" if lent else "BookCopyReturnedByReader"
        data = json.dumps(payload, separators=(",", ":")).encode()
        return DCBEvent(event_type, data, [f"book:{book}"])


def boundary(book):
    return DCBQuery([DCBQueryItem(tags=[f"book:{book}"])])


def digest(found):
    total = 0
    for each in found:
        payload = json.loads(each.event.data)
        identity = f'{each.event.type} {payload["BookID"]} {payload["ReaderID"]} {payload["ISBN"]} {payload["Title"]}'
        total += zlib.adler32(identity.encode())
    return {"events": len(found), "sum": total}


def ran(done, seconds):
    return {
        "done": done,
        "conflicts": 0,
        "micros": int(seconds * 1_000_000),
        "latencies": [],
        "acknowledged": [],
    }


def answer(work):
    try:
        told = {"Ok": work()}
    except Exception as error:
        traceback.print_exc()
        told = {"Err": f"{type(error).__name__}: {error}"}
    print(json.dumps(told), flush=True)
    return told


def main():
    opening = json.loads(sys.stdin.readline())
    peers = []
    if "Err" in answer(lambda: peers.append(Peer(opening))):
        return
    orders = {name: getattr(peers[0], name.lower()) for name in ("Prepare", "Look", "Begin", "Run", "End")}
    for line in sys.stdin:
        order = json.loads(line)
        name, argument = (order, None) if isinstance(order, str) else next(iter(order.items()))
        answer(lambda: orders[name](argument))


main()
