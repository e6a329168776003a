import signal

def shutdown():
  asyncio.create_task(subscription.close())

signal.signal(signal.SIGINT, lambda *_: shutdown())
