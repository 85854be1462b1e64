'use strict';
// What a first function is likely to use, so that no call has to wait until Node has loaded it.
require('node:crypto');

exports.handler = async (event, context) => {
  console.log('%s', event.name, [event], { left: context.getRemainingTimeInMillis() });
  console.error(new Error('warm'));
  process.stdout.write('');
  await new Promise((done) => setTimeout(done, 0));
  return { statusCode: 200, body: { hello: event.name } };
};
