import asyncio, json, pytest
from aiohttp import web

async def show(name, coro):
    try:
        a = await asyncio.wait_for(coro, 8)
        print(name, '->', a.status if hasattr(a,'status') else a[:300], getattr(a,'data',b'')[:250])
        return a
    except Exception as e:
        print(name, '!!', type(e), e)

async def test_probe(world):
    j = await world.submit()
    for n,p in [('nan','/v1/jobs/1?wait_s=nan'),('ff','/v1/jobs?user=%ff'),('pathff','/v1/jobs/%ff%fe'),('key ff','/v1/status?%ff=1'),('labelff','/v1/jobs?label=%ff=%ff'),('evlarge','/v1/events?type=,,'),('surr','/v1/jobs?user=%ed%a0%80'),('since naive','/v1/jobs?since=2020-01-01T00:00:00'),('probs','/problems/timeout')]:
        await show(n, world.request('GET', p) if False else raw(world, p))
    await show('rawff', world.raw(b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    await show('rawffq', world.raw(b"GET /v1/jobs?user=\xff\xfe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    await show('lei', world.get('/v1/events', Accept='text/event-stream', Last_Event_ID='9'*30))
    await show('begin', world.post('/v1/jobs', {'argv':['true'],'begin_at':'9999-12-31T23:59:59-12:00'}))
    await show('list', world.get('/v1/jobs'))
    await show('get', world.get('/v1/jobs/2'))
    await show('status', world.get('/v1/status'))
    await show('since', world.get('/v1/jobs?since=0001-01-01T00:00:00%2B14:00'))
    await show('body on GET', world.raw(b"GET /v1/jobs/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nConnection: close\r\n\r\nx"))
    await show('labels key', world.post('/v1/jobs', {'argv':['true'],'labels':{'a b':'x'}}))
    await show('labels val', world.post('/v1/jobs', {'argv':['true'],'labels':{'a':1}}))
    await show('missing', world.post('/v1/jobs', {}))
    await show('bad req', world.raw(b"GET / HTTP/9.9\r\n\r\n"))
    a=await world.get('/v1/status'); print(a.headers)

def raw(world, p):
    return world.raw(f"GET {p} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
