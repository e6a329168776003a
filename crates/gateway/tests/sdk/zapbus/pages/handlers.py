@subscription.on_open
async def on_open():
    print("Realtime connected")

@subscription.on("Message")
async def on_message(event):
    print(event.id)
    print(event.instance_id)
    print(event.data)

@subscription.on("All")
async def on_all(event):
    print("Received event:", event.type)

@subscription.on_error
async def on_error(error):
    print("Realtime error:", error)
