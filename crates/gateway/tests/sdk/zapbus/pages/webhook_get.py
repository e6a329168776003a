webhook = client.webhooks.get("VZ...", instance_token="instance-token")
print(webhook)
