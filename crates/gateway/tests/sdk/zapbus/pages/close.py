await subscription.close()
