import asyncio, os, time, threading
import zapbus
from world import message, until, until_async
URL=os.environ["BASE_URL"]; TOKEN=os.environ["ADMIN_TOKEN"]

def sync():
    with zapbus.Client(url=URL, token=TOKEN) as z:
        made = z.instances.create(name="shop")
        assert made["token"]
        got = z.publish("shop", [{"type":"message.received","id":f"m{i}","data":message(f"m{i}")["data"]} for i in range(3)])
        assert all(p.id for p in got), got
        assert [e.id for e in z.events.list("shop", types="message.*", limit=2)] == [p.id for p in got]
        assert z.events.get(got[0].id).data["content"]["body"] == "hello"
        try: z.instances.get("nope")
        except zapbus.NotFoundError as e: assert e.code == "instance_not_found", e.code
        else: raise AssertionError
        with z.subscribe("shop", subscriber="crm", types=["message.*"], after=0) as sub:
            assert sub.state.name == "open"
            seen=[]
            for item in sub:
                seen.append(item.id)
                assert item.instance == "shop"
                if len(seen)==2: item.nack(after=0.05)
                else: item.ack()
                if len(seen)==4: break
            ids=[p.id for p in got]
            assert seen == [*ids, ids[1]], seen
            assert sub.lag.total_seconds() < 60
            t=time.time()
            try: sub.next(timeout=0.3)
            except TimeoutError: pass
            else: raise AssertionError
            assert time.time()-t<2
        stop=threading.Event(); handled=[]
        def handler(event):
            handled.append(event.id)
            if len(handled)==1: raise ValueError("x")
            if len(handled)>=6: stop.set()
        more=z.publish("shop", [{"type":"message.received","id":f"n{i}","data":message(f"n{i}")["data"]} for i in range(5)])
        fails=[]
        done=z.consume("shop", handler=handler, subscriber="crm", types=["message.*"], stop=stop, retry_after=0.05, concurrency=3, on_failure=lambda e,x: fails.append(e.id))
        assert done.failed==1 and done.done>=5, done
        assert set(handled)=={p.id for p in more} and fails==[more[0].id]

async def main():
    async with zapbus.AsyncClient(url=URL, token=TOKEN) as z:
        assert [i["name"] async for i in z.instances.list()] == ["shop"]
        stop=asyncio.Event(); handled=[]
        async def handler(event):
            handled.append(event.id); await asyncio.sleep(0)
            if len(handled)==20: stop.set()
        more=await z.publish("shop", [message(f"a{i}", chat=f"{i%4}@s.whatsapp.net") for i in range(20)])
        done=await asyncio.wait_for(z.consume("shop", handler=handler, concurrency=4, stop=stop, after=more[0].seq-1), 20)
        assert done.done==20, done
        async with z.subscribe("shop") as sub:
            [p]=await z.publish("shop",[message("last")])
            async for item in sub:
                assert item.id==p.id; item.ack(); break
            task=asyncio.create_task(sub.next()); await asyncio.sleep(0.05); task.cancel()
            try: await task
            except asyncio.CancelledError: pass
            await z.publish("shop",[message("last2")])
            item=await sub.next(); item.ack()
        try:
            async with zapbus.AsyncClient(url=URL, token="wrong") as w:
                await w.subscribe("shop").open()
        except zapbus.AuthenticationError as e: print(e)
        else: raise AssertionError
sync(); asyncio.run(main())
print([t.name for t in threading.enumerate()])
