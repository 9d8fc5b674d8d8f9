"""Clients of the app's shop and workflows through the edge at the address given: `routes`, or so many seconds of ordering
while something is killed."""

import sys
import threading
import time

import requests

from _checks import expect, expect_that, finish, part

TASK, *rest = sys.argv[1:]
SECONDS = float(rest.pop(0)) if TASK in ("outage", "redis", "replica") else 0
BASE, ROOT = rest
PASSWORD = "correct horse"
BUYERS = 4
# An order whose replica died is taken over five seconds later.
PATIENCE_S = 20


def seed(number):
    """The name of the product or workflow that seeding made as this one."""
    return f"00000000-0000-7000-8000-{number:012x}"


class Person:
    """Somebody who is signed in."""

    def __init__(self, name):
        self.client = requests.Session()
        self.client.verify = ROOT
        body = {"email": f"{name}@example.com", "user_name": name, "display_name": name, "password": PASSWORD}
        self.call("POST", "/auth/register", json=body)
        grant = self.call("POST", "/auth/login", json={"login": name, "password": PASSWORD})
        self.client.headers["Authorization"] = f"Bearer {grant.json()['access_token']}"

    def call(self, method, path, **more):
        return self.client.request(method, f"{BASE}/api/v1{path}", timeout=30, **more)

    def put_in_cart(self, product, quantity=1):
        return self.call("PUT", f"/cart/items/{product}", json={"quantity": quantity})

    def order(self, key, payment="local-approve"):
        return self.call("POST", "/orders", json={"payment_token": payment}, headers={"Idempotency-Key": key})

    def orders(self):
        return self.walk("/orders?limit=100")

    def walk(self, path):
        """What is on all pages of a list."""
        found, after = [], ""
        while True:
            page = self.call("GET", path + after).json()
            found += page["items"]
            if page["next"] is None:
                return found
            after = f"&after={page['next']}"


def on_hand(person, product):
    return sum(shelf["on_hand"] for shelf in person.call("GET", f"/products/{product}").json()["stock"])


def shop():
    ada, bob = Person("goods-ada"), Person("goods-bob")
    page = ada.call("GET", "/products?limit=50")
    expect("products by pages", (len(page.json()["items"]), page.json()["next"]), (50, seed(49)))
    stock = {item["id"]: item["in_stock"] for item in page.json()["items"]}
    expect("what is sold out", [number for number in range(50) if not stock[seed(number)]], [48])
    for words, found in [("oak desk", True), ("OAK d", True), ("desk oak", False), ("oak | desk", True), ("'); --", None)]:
        answer = ada.call("GET", "/products/search", params={"q": words})
        names = [item["name"] for item in answer.json().get("items", [])]
        if found is None:
            expect(f"no words in {words}", answer.status_code, 400)
        elif found:
            expect_that(f"found by {words}", names and all("Oak Desk" in name for name in names), names)
        else:
            expect_that(f"found by {words}", names, names)

    whole, by_pages = (ada.walk(f"/products/search?q=oak&limit={limit}") for limit in (100, 7))
    expect("what is found comes by pages", [item["id"] for item in by_pages], [item["id"] for item in whole])
    expect("each once", len({item["id"] for item in by_pages}), len(by_pages))

    expect("into the cart", [ada.put_in_cart(seed(0), 2).status_code, ada.put_in_cart(seed(1), 3).status_code], [204, 204])
    total = ada.call("GET", "/cart").json()["total_minor"]
    before = on_hand(ada, seed(0))
    made = ada.order("first")
    expect("ordered", (made.status_code, made.json()["total_minor"]), (201, total))
    expect("sent again", {ada.order("first").text for _ in range(4)}, {made.text})
    expect("another order under the key", ada.order("first", "local-decline").status_code, 422)
    expect("what is left is seen at once", on_hand(ada, seed(0)), before - 2)
    path = made.headers["Location"].removeprefix("/api/v1")
    items = sum(item["quantity"] for item in ada.call("GET", path).json()["items"])
    expect("its buyer reads it", items, 5)
    expect("nobody else does", [bob.call("GET", path + more).status_code for more in ("", "/payment")], [404, 404])
    expect("an empty cart", ada.order("empty").json()["code"], "cart-empty")
    ada.put_in_cart(seed(0))
    expect("declined", (ada.order("next", "local-decline").status_code, ada.order("next").status_code), (402, 201))

    buyers = [Person(f"goods-buyer{number}") for number in range(20)]
    for buyer in buyers:
        buyer.put_in_cart(seed(49))
    statuses = []
    threads = [threading.Thread(target=lambda b=b: statuses.append(b.order("last").status_code)) for b in buyers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect("of twenty buyers of the last piece one gets it", sorted(statuses), [201] + [409] * 19)
    expect("and none is left", on_hand(ada, seed(49)), 0)


def workflows():
    ada, bob = Person("steps-ada"), Person("steps-bob")
    listed = ada.call("GET", "/workflows?category=security&limit=100").json()["items"]
    expect("workflows of a category", {item["category"] for item in listed}, {"security"})
    found = ada.call("GET", "/workflows/search?q=the+login").json()["items"]
    expect_that("found by words", found and all("the login" in item["name"] for item in found), found)
    whole, by_pages = (ada.walk(f"/workflows/search?q=the+login&limit={limit}") for limit in (100, 3))
    expect("all of them by pages", [item["id"] for item in by_pages], [item["id"] for item in whole])
    run = ada.call("POST", f"/workflows/{seed(4)}/runs", json={}).json()
    path = f"/runs/{run['id']}"
    expect("the turn of the second has not come", ada.call("POST", f"{path}/steps/2", json={"confirmed": True}).status_code, 409)
    seen = []
    for step in range(1, run["steps"] + 1):
        # One step by many at once is done once.
        threads = [threading.Thread(target=ada.call, args=("POST", f"{path}/steps/{step}"), kwargs={"json": {"confirmed": True}})
                   for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        states = {ada.call("GET", f"{path}/progress").json()["done"] for _ in range(6)}
        following = ada.call("GET", f"{path}/next").json()["step"]
        seen.append((states, following and following["sequence"]))
    steps = run["steps"]
    expect("each step is seen at once", seen, [({n}, n + 1 if n < steps else None) for n in range(1, steps + 1)])
    expect("completed", [ada.call("POST", f"{path}/complete").status_code for _ in range(2)], [200, 200])
    expect("nobody else sees it", [bob.call("GET", path + what).status_code for what in ("/next", "/progress")], [404, 404])
    verdict = ada.call("POST", "/workflows/validate", json={"name": "", "steps": [{}]}).json()
    expect("every fault is named", len(verdict["faults"]), 7)


class Buying(Person):
    """One buyer who orders again and again, and sends again what had no good answer."""

    def __init__(self, number, until):
        super().__init__(f"{TASK}-buyer{number}")
        self.until, self.failed, self.given_up, self.keys = until, [], 0, 0

    def run(self):
        while time.monotonic() < self.until:
            while self.put_in_cart(seed(0)).status_code != 204:
                time.sleep(0.05)
            self.keys += 1
            deadline = time.monotonic() + PATIENCE_S
            while (answer := self.order(str(self.keys))).status_code != 201:
                self.failed.append((answer.status_code, answer.text[:100]))
                if time.monotonic() > deadline:
                    self.given_up += 1
                    break
                time.sleep(0.1)


def order_for_a_while():
    until = time.monotonic() + SECONDS
    buyers = [Buying(number, until) for number in range(BUYERS)]
    before = on_hand(buyers[0], seed(0))
    threads = [threading.Thread(target=buyer.run) for buyer in buyers]
    for thread in threads:
        thread.start()
    print("asking", flush=True)
    for thread in threads:
        thread.join()
    keys, found = sum(buyer.keys for buyer in buyers), [len(buyer.orders()) for buyer in buyers]
    expect(f"{TASK}: none of {keys} orders was lost or made twice", found, [buyer.keys for buyer in buyers])
    expect(f"{TASK}: no order was given up", sum(buyer.given_up for buyer in buyers), 0)
    expect(f"{TASK}: as many pieces are gone", before - on_hand(buyers[0], seed(0)), keys)
    # What was sent to a replica which then died is the client's to send again.
    if TASK != "replica":
        expect(f"{TASK}: no order failed", [failure for buyer in buyers for failure in buyer.failed], [])


if TASK == "routes":
    with part("shop"):
        shop()
    with part("workflows"):
        workflows()
else:
    order_for_a_while()
finish()
